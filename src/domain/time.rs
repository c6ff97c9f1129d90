//! Points in time: milliseconds since 1970-01-01T00:00:00Z. RFC 3339 on the wire; integer milliseconds are accepted too.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A day in milliseconds.
pub const DAY_MS: i64 = 86_400_000;

/// Milliseconds since the Unix epoch, between the years 0000 and 9999 (what RFC 3339 can write).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
#[schema(value_type = String, format = DateTime, description = "RFC 3339; integer milliseconds since 1970 are accepted too.", examples("2026-11-23T12:00:00Z"))]
pub struct Timestamp(i64);

/// A number or a text that is no point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an RFC 3339 time such as 2026-11-23T12:00:00Z, or integer milliseconds since 1970")]
pub struct InvalidTimestamp;

impl Timestamp {
    const MIN_MS: i64 = -62_167_219_200_000;
    const MAX_MS: i64 = 253_402_300_799_999;

    /// From milliseconds since the epoch.
    pub fn from_millis(ms: i64) -> Result<Self, InvalidTimestamp> {
        if (Self::MIN_MS..=Self::MAX_MS).contains(&ms) { Ok(Self(ms)) } else { Err(InvalidTimestamp) }
    }

    /// From RFC 3339.
    pub fn parse(text: &str) -> Result<Self, InvalidTimestamp> {
        let time = DateTime::parse_from_rfc3339(text).map_err(|_| InvalidTimestamp)?;
        Self::from_millis(time.timestamp_millis())
    }

    /// The machine's clock. For doors (`http`, `app`) only: inner rooms are handed the time.
    pub fn now() -> Self {
        Self(Utc::now().timestamp_millis().clamp(Self::MIN_MS, Self::MAX_MS))
    }

    /// Milliseconds since the epoch.
    pub fn millis(self) -> i64 {
        self.0
    }

    /// This time, or `now` where it lies more than a day after it: that is refused from callers, so a clock that was ahead has written it.
    pub fn believed(self, now: Self) -> Self {
        if self.0 > now.0.saturating_add(DAY_MS) { now } else { self }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = DateTime::<Utc>::from_timestamp_millis(self.0).expect("the constructor keeps to years 0 to 9999");
        f.write_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Timestamp;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 time or integer milliseconds")
            }
            fn visit_i64<E: de::Error>(self, ms: i64) -> Result<Timestamp, E> {
                Timestamp::from_millis(ms).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, ms: u64) -> Result<Timestamp, E> {
                i64::try_from(ms).map_err(|_| InvalidTimestamp).and_then(Timestamp::from_millis).map_err(E::custom)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
                Timestamp::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_from_rfc3339_and_milliseconds_and_written_as_rfc3339() {
        let noon: Timestamp = serde_json::from_str(r#""2026-11-23T13:00:00+01:00""#).unwrap();

        assert_eq!(serde_json::to_string(&noon).unwrap(), r#""2026-11-23T12:00:00.000Z""#);
        assert_eq!(serde_json::from_str::<Timestamp>(&noon.millis().to_string()).unwrap(), noon);
    }

    #[test]
    fn a_time_is_believed_up_to_a_day_ahead() {
        let [now, tomorrow, later] = [5, 5 + DAY_MS, 6 + DAY_MS].map(|ms| Timestamp::from_millis(ms).unwrap());

        assert_eq!([now, tomorrow, later].map(|at| at.believed(now)), [now, tomorrow, now]);
    }

    #[test]
    fn hostile_times_are_errors() {
        for bad in ["\"yesterday\"", "1e300", "9223372036854775807", "18446744073709551615", "-9223372036854775808", "1.5", "true", "\"10000-01-01T00:00:00Z\""]
        {
            assert!(serde_json::from_str::<Timestamp>(bad).is_err(), "{bad}");
        }
    }
}
