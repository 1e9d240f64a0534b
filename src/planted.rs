//! Owns the question of production code whether a deliberate fault is planted in it. In a
//! production build the answer is the constant `false`, and nothing is left of the question.

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
