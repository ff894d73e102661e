//! Takes from the compiling child every system call that compiling does not need.
//!
//! Whoever takes the compiler over has memory, threads and the three pipes, and nothing else: no files, no network, no other process, no descriptor that
//! was passed on by mistake. It is a list of what may be called; what a later kernel adds is not on it.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// Why a process was not confined. It goes on with its limits on time, memory and files alone.
#[derive(Debug, thiserror::Error)]
#[error(
    "this kernel does not take a list of system calls (seccomp), so only limits on time, memory and files hold: {0}"
)]
pub struct Unconfined(String);

/// System calls with harmless arguments, whatever they are: memory, threads, time, and the end.
const FREELY: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    // Answered 'not there' by a filter of its own: see `confine`.
    libc::SYS_clone3,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
];

/// Confines the calling thread and all that it starts from now on, for good.
///
/// # Errors
/// The kernel does not do it.
pub fn confine() -> Result<(), Unconfined> {
    let unconfined = |error: &dyn std::fmt::Display| Unconfined(error.to_string());
    // The flags of `clone3` lie in memory, where no filter looks. Where it is not there, the C library takes `clone`, whose flags are looked at.
    let no_clone3 = filter(
        [(libc::SYS_clone3, Vec::new())].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
    );
    let listed = rules().and_then(|rules| {
        filter(
            rules,
            SeccompAction::Errno(libc::EPERM.unsigned_abs()),
            SeccompAction::Allow,
        )
    });
    // Of two filters the stricter one counts; after the second no more can be set.
    for program in [no_clone3, listed] {
        let program = program.map_err(|error| unconfined(&error))?;
        apply_filter(&program).map_err(|error| unconfined(&error))?;
    }
    Ok(())
}

fn filter(
    rules: BTreeMap<c_long, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    listed: SeccompAction,
) -> Result<BpfProgram, seccompiler::BackendError> {
    SeccompFilter::new(rules, otherwise, listed, std::env::consts::ARCH.try_into()?)?.try_into()
}

fn rules() -> Result<BTreeMap<c_long, Vec<SeccompRule>>, seccompiler::BackendError> {
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> =
        FREELY.iter().map(|call| (*call, Vec::new())).collect();
    let is = |argument, value| {
        SeccompCondition::new(
            argument,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::Eq,
            u64::from(value),
        )
    };
    let of_pipes = |pipes: &[u32]| {
        pipes
            .iter()
            .map(|pipe| SeccompRule::new(vec![is(0, *pipe)?]))
            .collect::<Result<Vec<_>, _>>()
    };
    // Only its pipes: another descriptor may be open, but nothing can be done with it.
    for call in [libc::SYS_read, libc::SYS_readv] {
        rules.insert(call, of_pipes(&[0])?);
    }
    for call in [libc::SYS_write, libc::SYS_writev] {
        rules.insert(call, of_pipes(&[1, 2])?);
    }
    // Memory that no file stands behind: the descriptor is -1.
    rules.insert(
        libc::SYS_mmap,
        vec![SeccompRule::new(vec![is(4, u32::MAX)?])?],
    );
    // A thread of this process, and no other process.
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    let a_thread = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Qword,
        SeccompCmpOp::MaskedEq(thread),
        thread,
    )?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![a_thread])?]);
    // Its own threads may be ended, as `abort` does; no other process.
    rules.insert(
        libc::SYS_tgkill,
        vec![SeccompRule::new(vec![is(0, std::process::id())?])?],
    );
    // A thread's name.
    let name = libc::PR_SET_NAME.unsigned_abs();
    rules.insert(libc::SYS_prctl, vec![SeccompRule::new(vec![is(0, name)?])?]);
    // Limits may be read; none may be set any more: the new ones are at no address.
    let reads = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?;
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![reads])?]);
    Ok(rules)
}
