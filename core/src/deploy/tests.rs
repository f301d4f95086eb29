//! Table tests of planning and rolling.
