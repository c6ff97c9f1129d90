//! Floor 3: the learn path.
