//! An audit that finds nothing proves nothing: each deliberate fault must be found.

use crate::laboratory::COLLECTIONS_FAULTS;
use crate::test_support::assert_caught;

/// The test that runs in the child of a fault.
fn finder(fault: &str) -> &'static str {
    match fault {
        // Only another thread shows it.
        "ParentLetGoTooEarly" => {
            "collections::shuttled::family_tests::no_order_of_handles_breaks_a_family"
        }
        "InheritedHandleGoesOn" => "collections::tests::processes::lives_go_on_in_children",
        "PositionsNotMoved" | "PositionsKeptAtSplit" => {
            "collections::tests::vector::lives::lives_are_those_of_a_vec"
        }
        "ColdKeysNotChecked" => {
            "collections::tests::cold::tests::keys_that_are_out_of_place_are_refused"
        }
        "CutLeavesColdNodes" => {
            "collections::tests::cold::tests::what_one_handle_has_cut_away_another_one_can_touch"
        }
        _ => "collections::tests::lives::lives_of_keys_and_values_that_own_memory",
    }
}

#[test]
fn planted_faults_are_caught() {
    for (name, what) in COLLECTIONS_FAULTS {
        assert_caught(finder(name), (name, what));
    }
}
