//! PID 1 of a node's image.

fn main() {
    std::process::exit(bramble_image_tools::init::main());
}
