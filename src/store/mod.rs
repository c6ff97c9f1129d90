//! Floor 2: the durable truth.
