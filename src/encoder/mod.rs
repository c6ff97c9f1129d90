//! Floor 2: text to embedding.
