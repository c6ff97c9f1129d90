//! Floor 5: the settings of all rooms.
