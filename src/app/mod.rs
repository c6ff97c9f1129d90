//! Floor 6: builds every room, wires the seams, starts and stops the workers.
