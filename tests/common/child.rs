//! Tests that start processes: this test binary again, to run one of its tests alone.

/// The name that the test harness has for a test: `test_name!(child)` is the `child` of the module
/// where it is written. Where there is no such test it does not compile, so moves cannot break it.
#[allow(unused_macros)] // not every test binary starts processes
macro_rules! test_name {
    ($test:ident) => {{
        let _: fn() = $test;
        $crate::common::child::without_crate(concat!(module_path!(), "::", stringify!($test)))
    }};
}
#[allow(unused_imports)] // as above
pub(crate) use test_name;

pub fn without_crate(path: &'static str) -> &'static str {
    path.split_once("::").expect("a path begins with its crate").1
}

/// The arguments that make this test binary run one test alone, ignored or not, and show what it
/// prints.
pub fn alone(test: &str) -> [&str; 6] {
    ["--exact", test, "--include-ignored", "--nocapture", "--test-threads", "1"]
}

/// A test binary that has no test of the name says so, and succeeds.
pub fn assert_ran(printed: &str) {
    assert!(!printed.contains("running 0 tests"), "the child process found no test to run");
}
