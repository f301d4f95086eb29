//! Tables of what tasks are told.
