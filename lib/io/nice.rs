//! Background priority for threads.

/// By how much the nice value is raised for work for which nobody waits. With this value a thread still gets a tenth of
/// a busy processor.
const NICER: i32 = 10;

/// Gives the calling thread background priority, so that the server's work comes first. For work that needs much
/// processor time and for which nobody waits: if only some programs of a pipeline did this, the others would starve
/// them, and then be idle.
pub fn step_back() {
    // On Linux this applies to the calling thread only. If it is refused, the work goes on at normal priority.
    let _ = rustix::process::nice(NICER);
}
