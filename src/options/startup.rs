//! Owns the prediction of how long a start takes, from what it has to load and to replay, and from
//! how fast this machine has shown to be. Knows nothing of who measures that.

use std::time::Duration;

/// What a start loads of a snapshot, and of those that it rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StartupLoad {
    /// Bytes of the entries in large collections: several threads decode them, or they stay in the
    /// file until they are touched.
    pub(crate) part_bytes: u64,
    /// The number of parts that hold them.
    pub(crate) parts: u64,
    /// Bytes of changes.
    pub(crate) change_bytes: u64,
    /// All other bytes.
    pub(crate) other_bytes: u64,
}

/// What is assumed before anything was measured, and how the kinds of bytes compare to each other.
/// Measured: a byte outside of large collections takes 13 to 21 ns (in an ordered map of small
/// entries), one in them 0.4 to 3 ns, and one of changes 2 to 7 times as long, because each entry is
/// a step of its own.
const OTHER_PS_PER_BYTE: u64 = 13_000;
const PART_PS_PER_BYTE: u64 = 3_000;
const CHANGE_PS_PER_BYTE: u64 = 12_000;
/// The same if entries stay in the file: measured, 50 to 200 ns for each part, and 2 to 13 ns for
/// each byte of changes.
const LATE_PS_PER_PART: u64 = 100_000;
const LATE_CHANGE_PS_PER_BYTE: u64 = 8_000;
/// Loading a part later was measured at 11 to 16 µs, and at 20 to 35 µs if there are changes, because
/// some entries of each come from them.
const LATE_NS_PER_PART: u64 = 15_000;
const LATE_NS_PER_CHANGED_PART: u64 = 30_000;

impl StartupLoad {
    /// Returns how long loading takes if nothing is known of the machine.
    pub(crate) fn guessed(&self, is_late: bool) -> Duration {
        let (parts, changes) = match is_late {
            true => (self.parts.saturating_mul(LATE_PS_PER_PART), LATE_CHANGE_PS_PER_BYTE),
            false => (self.part_bytes.saturating_mul(PART_PS_PER_BYTE), CHANGE_PS_PER_BYTE),
        };
        let others = self.other_bytes.saturating_mul(OTHER_PS_PER_BYTE);
        let changes = self.change_bytes.saturating_mul(changes);
        Duration::from_nanos(parts.saturating_add(others).saturating_add(changes) / 1000)
    }

    /// Returns how long it takes to load a part later if nothing is known of the machine.
    pub(crate) fn guessed_ns_per_part(&self) -> u64 {
        if self.change_bytes == 0 { LATE_NS_PER_PART } else { LATE_NS_PER_CHANGED_PART }
    }
}

/// How fast this machine opens this database.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StartupRates {
    /// How long loading takes, compared with the guess.
    pub(crate) load_ratio: f64,
    /// The time to replay one command, in nanoseconds. What it loads of the snapshot is not
    /// included.
    pub(crate) replay_ns_per_command: u64,
    /// The time to open one segment, in nanoseconds.
    pub(crate) open_ns_per_segment: u64,
    /// The part that does not depend on what the database holds.
    pub(crate) fixed: Duration,
    /// Set if entries stay in the file until they are touched.
    pub(crate) late: Option<LateRates>,
}

/// How a replay loads entries that are in the snapshot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LateRates {
    /// How long it takes to load a part, compared with the guess.
    pub(crate) part_ratio: f64,
    /// How many parts a command touches, if none of them was touched before.
    pub(crate) parts_per_command: f64,
}

impl LateRates {
    /// Returns how long commands take to load what they touch. Each touches parts as if at random,
    /// and only the first that touches a part loads it.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate; a float becomes the nearest number that there is"
    )]
    fn loading(&self, commands: u64, load: &StartupLoad) -> Duration {
        let parts = load.parts.max(1) as f64;
        let touches = self.parts_per_command * commands as f64;
        let touched = parts * -(-touches / parts).exp_m1();
        let ns_per_part = self.part_ratio * load.guessed_ns_per_part() as f64;
        Duration::from_nanos((touched * ns_per_part) as u64)
    }

    /// Returns how many parts a command touches, if so many commands have touched `touched` of all.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(crate) fn parts_per_command(commands: u64, touched: u64, parts: u64) -> f64 {
        let (commands, parts) = (commands.max(1) as f64, parts.max(1) as f64);
        let share = touched as f64 / parts;
        if share > MOST_TOUCHED_SHARE {
            // Any number of commands may have met them again.
            return GUESSED_PARTS_PER_COMMAND;
        }
        -parts / commands * (-share).ln_1p()
    }
}

/// Beyond this share of touched parts, their number says little about the number of touches.
const MOST_TOUCHED_SHARE: f64 = 0.95;
/// Before anything was measured.
pub(crate) const GUESSED_PARTS_PER_COMMAND: f64 = 1.0;

impl StartupRates {
    fn load(&self, load: &StartupLoad) -> Duration {
        let guessed = load.guessed(self.late.is_some());
        Duration::try_from_secs_f64(guessed.as_secs_f64() * self.load_ratio)
            .unwrap_or(Duration::MAX)
    }

    pub(crate) fn predicted(&self, load: &StartupLoad, commands: u64, segments: u64) -> Duration {
        self.before_replay(load, segments).saturating_add(self.replay(load, commands))
    }

    fn before_replay(&self, load: &StartupLoad, segments: u64) -> Duration {
        let open = Duration::from_nanos(segments.saturating_mul(self.open_ns_per_segment));
        self.fixed.saturating_add(self.load(load)).saturating_add(open)
    }

    fn replay(&self, load: &StartupLoad, commands: u64) -> Duration {
        let apply = Duration::from_nanos(commands.saturating_mul(self.replay_ns_per_command));
        let late = self.late.map(|late| late.loading(commands, load));
        apply.saturating_add(late.unwrap_or_default())
    }

    /// Returns how many commands may follow a snapshot, at least one.
    pub(super) fn commands_within(
        &self,
        budget: Duration,
        load: &StartupLoad,
        segments: u64,
    ) -> u64 {
        let left = budget.saturating_sub(self.before_replay(load, segments));
        let allowed = left.max(self.before_replay(load, 0) / 4);
        // More commands never take less time.
        let (mut within, mut beyond) = (1, u64::MAX);
        while beyond - within > 1 {
            let middle = within + (beyond - within) / 2;
            match self.replay(load, middle) <= allowed {
                true => within = middle,
                false => beyond = middle,
            }
        }
        within
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) const RATES: StartupRates = StartupRates {
        load_ratio: 1.0,
        replay_ns_per_command: 1000,
        open_ns_per_segment: 100_000,
        fixed: Duration::from_millis(10),
        late: None,
    };

    /// Returns what takes so long to load.
    pub(in super::super) fn loading_ms(time_ms: u64) -> StartupLoad {
        let part_bytes = time_ms * 1_000_000_000 / PART_PS_PER_BYTE;
        StartupLoad { part_bytes: part_bytes.next_multiple_of(10), ..StartupLoad::default() }
    }

    #[test]
    fn loading_is_measured_against_the_guess() {
        let load = StartupLoad {
            part_bytes: 5_000_000,
            parts: 2_000,
            change_bytes: 1_000_000,
            other_bytes: 1_000_000,
        };
        let predicted = |load_ratio, late| {
            let rates = StartupRates { load_ratio, late, fixed: Duration::ZERO, ..RATES };
            rates.predicted(&load, 0, 0)
        };
        assert_eq!(predicted(1.0, None), Duration::from_millis(15 + 12 + 13));
        assert_eq!(predicted(0.5, None), Duration::from_millis(20));
        let late = LateRates { part_ratio: 1.0, parts_per_command: 1.0 };
        assert_eq!(predicted(1.0, Some(late)), Duration::from_micros(200 + 8_000 + 13_000));
    }

    /// What is touched first is loaded, and what is touched again is not.
    #[test]
    fn a_replay_loads_what_it_touches_once() {
        let late = LateRates { part_ratio: 4.0 / 3.0, parts_per_command: 1.0 };
        let rates = StartupRates { late: Some(late), fixed: Duration::ZERO, ..RATES };
        let load = StartupLoad { parts: 1_000, ..StartupLoad::default() };
        let loading = |commands: u64| {
            let all = rates.predicted(&load, commands, 0) - rates.predicted(&load, 0, 0);
            (all - Duration::from_micros(commands)).as_millis()
        };
        assert_eq!([loading(0), loading(1), loading(10)], [0, 0, 0]);
        assert_eq!([loading(100), loading(1_000), loading(100_000)], [1, 12, 20]);
        let changed = StartupLoad { change_bytes: 1, ..load };
        let predicted = |load| rates.predicted(load, 100_000, 0).as_millis();
        assert_eq!([predicted(&load), predicted(&changed)], [120, 140]);
        let budget = Duration::from_millis(40);
        let within = rates.commands_within(budget, &load, 0);
        assert!(rates.predicted(&load, within, 0) <= budget);
        assert!(rates.predicted(&load, within + 1, 0) > budget);
    }

    #[test]
    fn how_much_a_command_touches_follows_from_what_was_touched() {
        for per_command in [0.001, 1.0, 3.0, 5.0] {
            let part_ratio = 1_000.0 / LATE_NS_PER_PART as f64; // 1 µs for each part
            let late = LateRates { part_ratio, parts_per_command: per_command };
            let load = StartupLoad { parts: 2_000, ..StartupLoad::default() };
            let touched = late.loading(1_000, &load).as_secs_f64() * 1e6;
            let found = LateRates::parts_per_command(1_000, touched.round() as u64, 2_000);
            assert!((found / per_command - 1.0).abs() < 0.01, "{found} {per_command} {touched}");
        }
        let all = LateRates::parts_per_command(1_000, 2_000, 2_000);
        assert_eq!(all, GUESSED_PARTS_PER_COMMAND);
        assert_eq!(LateRates::parts_per_command(0, 0, 0), 0.0);
    }
}
