//! The command `doorbell`.

fn main() -> ! {
    doorbell::main()
}
