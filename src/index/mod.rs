//! Floor 2: embedding and terms to nearest items.
