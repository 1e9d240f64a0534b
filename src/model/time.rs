//! Owns the encoding of times in the files: nanoseconds since 1970. Knows nothing of clocks.

use std::time::{Duration, SystemTime};

/// Converts a time into nanoseconds since 1970, as the files store it.
pub(crate) fn time_ns(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[inline]
pub(crate) fn system_time(time_ns: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(time_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_format() {
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_792_000_000, 123_456_789);
        assert_eq!(system_time(time_ns(time)), time);
        assert_eq!(time_ns(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), 0);
    }
}
