//! Floor 2: what was learned.
