//! Floor 3: the write path.
