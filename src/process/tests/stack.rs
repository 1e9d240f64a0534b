//! How far a stack may be used, and what is freed where.

use super::*;

/// Uses stack until the floor is reached, and returns how much that was.
fn descend(floor: Floor, began: usize) -> usize {
    let ballast = std::hint::black_box([0_u8; 512]);
    let used = if floor.is_reached() { began - here() } else { descend(floor, began) };
    std::hint::black_box(&ballast);
    used
}

#[test]
fn floors_are_where_the_constants_say() {
    // The test harness made this thread, so its stack's size is not known.
    for floor in [Floor::of_encoding(), Floor::of_decoding()] {
        let used = descend(floor, here());
        assert!((UNKNOWN_BYTES..UNKNOWN_BYTES + 8192).contains(&used), "{used}");
    }
    let (encoding, decoding) = run(|| {
        let descend = |floor| descend(floor, here());
        (descend(Floor::of_encoding()), descend(Floor::of_decoding()))
    })
    .unwrap();
    assert!((ENCODING_BYTES..ENCODING_BYTES + 8192).contains(&encoding), "{encoding}");
    let whole = STACK_BYTES - LEFT_BYTES;
    assert!((whole - 8192..whole + 8192).contains(&decoding), "{decoding}");
}

#[test]
fn a_floor_of_decoding_is_the_threads_own_wherever_it_begins() {
    fn deep(levels: u32) -> usize {
        let ballast = std::hint::black_box([0_u8; 4096]);
        let floor = if levels == 0 { Floor::of_decoding().0 } else { deep(levels - 1) };
        std::hint::black_box(&ballast);
        floor
    }
    let (above, below) = run(|| (Floor::of_decoding().0, deep(500))).unwrap();
    assert_eq!(above, below);
}

#[test]
fn values_are_received_on_the_calling_thread_and_one_thread_is_enough() {
    let here = std::thread::current().id();
    let mut told = Vec::new();
    let there = run_telling(
        |tell| {
            (1..=3).for_each(tell);
            let there = std::thread::current().id();
            assert_eq!(run(|| std::thread::current().id()).unwrap(), there);
            there
        },
        |number| {
            assert_eq!(std::thread::current().id(), here);
            told.push(number);
        },
    );
    assert_ne!(there.unwrap(), here);
    assert_eq!(told, [1, 2, 3]);
}

#[test]
fn a_panic_comes_to_the_caller() {
    for on_thread in [true, false] {
        let caught = std::panic::catch_unwind(|| {
            let body = |tell: &dyn Fn(u8)| {
                tell(1);
                assert!(!on_thread, "as asked");
            };
            run_telling(body, |_| assert!(on_thread, "as asked"))
        });
        assert!(caught.is_err());
    }
}
