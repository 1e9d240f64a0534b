//! Owns the question of production code whether a deliberate fault is planted in it, and the moments
//! at which a test may change its surroundings. In a production build the answer is the constant
//! `false`, a moment is nothing, and nothing is left of either.

#[cfg(any(test, fuzzing, feature = "laboratory"))]
macro_rules! planted {
    ($fault:ident) => {
        $crate::laboratory::is_planted($crate::laboratory::Planted::$fault)
    };
}

#[cfg(not(any(test, fuzzing, feature = "laboratory")))]
macro_rules! planted {
    ($fault:ident) => {
        false
    };
}

#[cfg(any(test, fuzzing, feature = "laboratory"))]
macro_rules! moment {
    ($moment:ident) => {
        $crate::laboratory::moment($crate::laboratory::Moment::$moment)
    };
}

#[cfg(not(any(test, fuzzing, feature = "laboratory")))]
macro_rules! moment {
    ($moment:ident) => {
        ()
    };
}
