//! Whose work comes first where processors are short.

/// How much nicer than the rest a thread is that works while everybody else goes on. With so much it still gets a
/// tenth of a busy processor.
const NICER: i32 = 10;

/// Lets the server's work come before that of the calling thread. For what needs much of the processor and nobody
/// waits for: if only some stages of a pipeline did this, the others would starve them, and idle then.
pub fn step_back() {
    // Linux takes this for the calling thread alone. Where it is refused, the work is merely less polite.
    let _ = rustix::process::nice(NICER);
}
