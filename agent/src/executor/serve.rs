//! The executor's loop while its container exists: one poll over the agent's connections, the
//! container's output, signals and a stop under way. Owns the state told to the agent.

use super::container::Created;
use super::error::{ExecutorError, chain};
use super::lease::Lease;
use super::logs::LogFile;
use super::peers::Peers;
use super::stop::{Stop, Target};
use crate::runtime::cgroup::TaskCgroup;
use bramble_protocol::executor::{ExecutorSpec, ExitRecord, FromExecutor, ToExecutor};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// Bytes read from a log pipe at once.
const CHUNK_BYTES: usize = 8 * 1024;
/// Chunks per pipe and turn, so that a shouting container cannot keep us from its agent.
const CHUNKS_PER_TURN: usize = 16;
/// Added to a signal's number to make an exit code, as shells do.
const SIGNAL_CODE_BASE: i32 = 128;
/// Grace of a stop that the machine's shutdown asks for.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// Told of a container that was to begin without a lease.
const NO_LEASE: &str = "there was no lease to run under";
/// The process that shuts a machine down.
const SYSTEM_INIT: u32 = 1;

/// One output stream on its way to a log file.
struct Stream {
    pipe: Option<OwnedFd>,
    log: LogFile,
}

/// Everything the loop works on.
pub struct Service<'a> {
    spec: &'a ExecutorSpec,
    cgroup: &'a TaskCgroup<'a>,
    signals: SignalFd,
    peers: Peers,
    created: Created,
    streams: [Stream; 2],
    running: bool,
    stop: Option<Stop>,
    /// `None`: it may run for ever.
    lease: Option<Lease>,
    /// Nothing else than the lease made it end.
    lease_over: bool,
    exit_code: Option<i32>,
    failure: Option<String>,
}

/// What is left when the container has ended.
pub struct Ended {
    pub record: ExitRecord,
    pub peers: Peers,
}

impl<'a> Service<'a> {
    pub fn new(
        spec: &'a ExecutorSpec,
        cgroup: &'a TaskCgroup<'a>,
        signals: SignalFd,
        peers: Peers,
        mut created: Created,
        lease: Option<Lease>,
    ) -> Self {
        let sandbox = Path::new(&spec.sandbox);
        let stream = |pipe, name, rotated| Stream {
            pipe,
            log: LogFile::open(sandbox, name, rotated, spec.log_bytes_max),
        };
        let streams = [
            stream(created.stdout.take(), "stdout", "stdout.1"),
            stream(created.stderr.take(), "stderr", "stderr.1"),
        ];
        Self {
            spec,
            cgroup,
            signals,
            peers,
            created,
            streams,
            running: false,
            stop: None,
            lease,
            lease_over: false,
            exit_code: None,
            failure: None,
        }
    }

    /// Serve until init has ended.
    ///
    /// # Errors
    /// poll(2) fails: the caller kills the container.
    pub fn run(mut self) -> Result<Ended, ExecutorError> {
        // Init may have ended, or the agent connected, before the first poll.
        self.reap();
        while self.exit_code.is_none() {
            let ready = self.wait()?;
            if ready.signal {
                self.take_signals();
            }
            for (stream, readable) in self.streams.iter_mut().zip(ready.streams) {
                if readable {
                    stream.drain(CHUNKS_PER_TURN);
                }
            }
            if ready.peers {
                let state = self.state();
                self.peers.accept(&state);
                for request in self.peers.requests() {
                    self.obey(request);
                }
            }
            self.look_at_lease();
            self.look_at_stop();
        }
        Ok(self.end())
    }

    fn wait(&self) -> Result<Ready, ExecutorError> {
        let mut watched: Vec<PollFd<'_>> =
            vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let pipes = self.streams.iter().filter_map(|s| s.pipe.as_ref());
        watched.extend(pipes.map(|p| PollFd::new(p.as_fd(), PollFlags::POLLIN)));
        // Only to be woken: what is due is looked at in every turn. Before it runs nothing is.
        let lease = self.lease.as_ref().filter(|_| self.running);
        watched.extend(lease.iter().map(|l| PollFd::new(l.descriptor(), PollFlags::POLLIN)));
        watched.extend(self.peers.descriptors().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let timeout = match self.stop.as_ref().and_then(Stop::next_look) {
            // Rounded up, or the last fraction of a millisecond would be spun away.
            Some(left) => {
                PollTimeout::try_from(left.as_millis() as u32 + 1).unwrap_or(PollTimeout::MAX)
            }
            None => PollTimeout::NONE,
        };
        match poll(&mut watched, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(source) => return Err(ExecutorError::Process { step: "polling", source }),
        }
        let mut hit = watched.iter().map(|fd| fd.any().unwrap_or(true));
        let signal = hit.next().unwrap_or(false);
        let streams = self.streams.each_ref().map(|s| s.pipe.is_some() && hit.next() == Some(true));
        let _woken = lease.and_then(|_| hit.next());
        Ok(Ready { signal, streams, peers: hit.any(|h| h) })
    }

    fn state(&self) -> FromExecutor {
        let init = self.created.init;
        match (&self.stop, self.running) {
            (Some(_), _) => FromExecutor::Stopping { init },
            (None, true) => FromExecutor::Running { init },
            (None, false) => FromExecutor::Created { init },
        }
    }

    fn obey(&mut self, request: ToExecutor) {
        match request {
            ToExecutor::Start => self.start(),
            ToExecutor::Stop { grace_ms } => self.begin_stop(Duration::from_millis(grace_ms)),
            ToExecutor::Lease { until_ms } => {
                // Answered by nothing: it comes every other second.
                return self.lease.iter_mut().for_each(|lease| lease.extend(until_ms));
            }
            ToExecutor::Query => {}
        }
        let state = self.state();
        self.peers.tell(&state);
    }

    fn start(&mut self) {
        if self.running || self.stop.is_some() {
            return;
        }
        if self.lease.as_ref().is_some_and(|lease| !lease.may_begin()) {
            self.failure = Some(NO_LEASE.to_string());
            self.lease_over = true;
            self.cgroup.kill_once();
            return;
        }
        if let Err(e) = self.created.container.start() {
            self.failure = Some(chain(&ExecutorError::Start(Box::new(e))));
            self.cgroup.kill_once();
            return;
        }
        self.running = true;
        if let Some(quota) = self.spec.cpu_quota_us
            && let Err(e) = self.cgroup.set_cpu_quota(Some(quota))
        {
            // A task without its ceiling would take from its neighbours unseen.
            self.failure = Some(chain(&e));
            self.cgroup.kill_once();
        }
        super::session::trim();
    }

    fn begin_stop(&mut self, grace: Duration) {
        let target = target(self.spec, self.cgroup, &self.created);
        match &mut self.stop {
            Some(stop) => stop.shorten(&target, grace),
            None => self.stop = Some(Stop::begin(&target, grace)),
        }
    }

    /// What does not run yet needs no lease: it cannot begin without one.
    fn look_at_lease(&mut self) {
        if !self.running {
            return;
        }
        let stopping = self.stop.is_some();
        let Some(lease) = &mut self.lease else { return };
        let first = !lease.is_over();
        if let Some(grace) = lease.due() {
            self.begin_stop(grace);
            if first {
                self.lease_over = !stopping;
                let state = self.state();
                self.peers.tell(&state);
            }
        }
    }

    fn look_at_stop(&mut self) {
        let target = target(self.spec, self.cgroup, &self.created);
        if let Some(stop) = &mut self.stop {
            stop.look(&target);
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let asked = info.ssi_signo == Signal::SIGTERM as u32;
            // Anyone else's SIGTERM (`pkill bramble`) must not stop apps; the machine's own
            // shutdown may, or it would wait for us until its time limit.
            if asked && info.ssi_pid == SYSTEM_INIT {
                self.obey(ToExecutor::Stop { grace_ms: SHUTDOWN_GRACE.as_millis() as u64 });
            }
        }
        self.reap();
    }

    fn reap(&mut self) {
        loop {
            let (pid, code) = match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, SIGNAL_CODE_BASE + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if pid.as_raw() == self.created.init.pid {
                self.exit_code = Some(code);
            }
        }
    }

    fn end(mut self) -> Ended {
        // Counted before the cgroup goes; everything else of the container ended with init's
        // pid namespace, so that the pipes hold all there will ever be.
        let oom = self.cgroup.oom_kills() > 0;
        for stream in &mut self.streams {
            stream.drain(usize::MAX);
        }
        let failure = match (self.failure, self.running, &self.stop) {
            (None, false, None) => Some("init ended before it was started".to_string()),
            (failure, ..) => failure,
        };
        let record = ExitRecord {
            code: self.exit_code.unwrap_or_default(),
            oom,
            stopped: self.stop.is_some(),
            failure,
            lease_over: self.lease_over,
        };
        Ended { record, peers: self.peers }
    }
}

struct Ready {
    signal: bool,
    streams: [bool; 2],
    peers: bool,
}

fn target<'a>(spec: &ExecutorSpec, cgroup: &'a TaskCgroup<'a>, created: &Created) -> Target<'a> {
    let signal = spec.stop_signal.unwrap_or(libc::SIGTERM);
    Target { cgroup, init: created.init, all: spec.term_all, signal }
}

impl Stream {
    fn drain(&mut self, chunks: usize) {
        let mut chunk = [0u8; CHUNK_BYTES];
        for _ in 0..chunks {
            let Some(pipe) = &self.pipe else { return };
            match nix::unistd::read(pipe.as_raw_fd(), &mut chunk) {
                Ok(count) if count > 0 => self.log.append(&chunk[..count]),
                Err(nix::Error::EAGAIN) => return,
                Err(nix::Error::EINTR) => {}
                // End of file; a terminal whose last process left says EIO instead.
                Ok(_) | Err(_) => self.pipe = None,
            }
        }
    }
}
