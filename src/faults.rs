//! Owns three macros with which tests reach into production code: `fault!` asks whether a
//! deliberate fault is planted at this place, `moment!` marks a moment at which a test may change
//! the surroundings, and `size!` is a size that tests can make small. In a production build
//! `fault!` is the constant `false`, `moment!` is `()` and `size!` a constant, so none of them
//! costs anything.

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

#[cfg(any(test, fuzzing, feature = "laboratory"))]
macro_rules! size {
    ($usual:expr, small: $small:expr) => {
        if $crate::laboratory::sizes_are_small() { $small } else { $usual }
    };
}

#[cfg(not(any(test, fuzzing, feature = "laboratory")))]
macro_rules! size {
    ($usual:expr, small: $small:expr) => {
        $usual
    };
}
