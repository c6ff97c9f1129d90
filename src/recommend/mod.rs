//! Floor 3: the read path.
