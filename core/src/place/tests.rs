//! Table tests of placing.
