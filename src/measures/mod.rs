//! Floor 1: ranking measures, pure functions.
