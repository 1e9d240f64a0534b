#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| prevalence::laboratory::fuzzing::rescue(data));
