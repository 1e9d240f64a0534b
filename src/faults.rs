//! Owns two macros with which tests reach into production code: `fault!` asks whether a
//! deliberate fault is planted at this place, and `moment!` marks a moment at which a test may
//! change the surroundings. In a production build `fault!` is the constant `false` and `moment!`
//! is `()`, so both cost nothing.

#[cfg(any(test, fuzzing, feature = "laboratory"))]
macro_rules! fault {
    ($fault:ident) => {
        $crate::laboratory::is_planted($crate::laboratory::Planted::$fault)
    };
}

#[cfg(not(any(test, fuzzing, feature = "laboratory")))]
macro_rules! fault {
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
