//! Floor 2: what we know right now.
