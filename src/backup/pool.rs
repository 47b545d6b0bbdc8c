//! Work on all processors, whose results come back in the order of the jobs.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, mpsc};

/// The most threads of one pool: more would only wait for the disk.
const MOST_THREADS: usize = 8;

/// Threads that do one kind of work. What waits is bounded, and so is the memory for it.
pub(super) struct Pool<J, R> {
    jobs: mpsc::SyncSender<(J, mpsc::Sender<R>)>,
    pending: VecDeque<mpsc::Receiver<R>>,
    most: usize,
}

impl<J: Send + 'static, R: Send + 'static> Pool<J, R> {
    /// As many threads as there are processors, each with a worker of its own.
    pub(super) fn new<W: FnMut(J) -> R + Send + 'static>(worker: impl Fn() -> W) -> Pool<J, R> {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(MOST_THREADS));
        let (jobs, queue) = mpsc::sync_channel::<(J, mpsc::Sender<R>)>(threads);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            let mut work = worker();
            std::thread::spawn(move || {
                loop {
                    let job = match queue.lock() {
                        Ok(queue) => queue.recv(),
                        Err(_) => return,
                    };
                    let Ok((job, done)) = job else { return };
                    // Nobody waits for it any more when all of it was given up.
                    let _ = done.send(work(job));
                }
            });
        }
        Pool { jobs, pending: VecDeque::new(), most: threads + 4 }
    }

    /// Hands in a job. May wait for a thread.
    pub(super) fn push(&mut self, job: J) -> io::Result<()> {
        let (done, result) = mpsc::channel();
        self.jobs.send((job, done)).map_err(|_| io::Error::other("the threads at work are gone"))?;
        self.pending.push_back(result);
        Ok(())
    }

    /// Whether so much is under way that results should be taken before more is handed in.
    pub(super) fn is_full(&self) -> bool {
        self.pending.len() >= self.most
    }

    /// The result of the oldest job; waits for it. None: there is no job.
    pub(super) fn pop(&mut self) -> Option<io::Result<R>> {
        let result = self.pending.pop_front()?;
        Some(result.recv().map_err(|_| io::Error::other("a thread at work died")))
    }
}

/// Lets other programs go first: the agent's writers notice less of a backup. For this thread and
/// those it begins, and for good: only a thread of our own may do this, never one that may yet start
/// a service.
pub(super) fn give_way() {
    // Elsewhere this would be for the whole process.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(10);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        let mut pool = Pool::new(|| {
            |job: u64| {
                std::thread::sleep(std::time::Duration::from_millis(job % 5));
                job * 2
            }
        });
        let mut results = Vec::new();
        for job in 0..100 {
            pool.push(job).unwrap();
            while pool.is_full() {
                results.push(pool.pop().unwrap().unwrap());
            }
        }
        while let Some(result) = pool.pop() {
            results.push(result.unwrap());
        }
        assert_eq!(results, (0..100).map(|job| job * 2).collect::<Vec<_>>());
    }
}
