//! The names of system calls, and their numbers on this machine.
//!
//! From the constants of libc, so that a name that is wrong does not compile: those that every machine
//! has, then those of some.

/// Names with a space behind each, and their numbers. A list of pairs would be pointers, each of which
/// a position-independent program has to write at its start, into memory of its own.
struct Calls {
    names: &'static str,
    numbers: &'static [libc::c_long],
}

macro_rules! calls {
    ($($call:ident)*) => {
        Calls { names: concat!($( stringify!($call), " "),*), numbers: &[ $( libc::$call ),* ] }
    };
}

/// What the names in the lists begin with.
const PREFIX: &str = "SYS_";

/// On every machine.
const EVERYWHERE: Calls = calls! {
    SYS_accept4 SYS_acct SYS_add_key SYS_adjtimex SYS_bind SYS_bpf SYS_brk SYS_capget SYS_capset
    SYS_chdir SYS_chroot SYS_clock_adjtime SYS_clock_getres SYS_clock_gettime SYS_clock_nanosleep
    SYS_clock_settime SYS_clone SYS_clone3 SYS_close SYS_close_range SYS_connect
    SYS_copy_file_range SYS_delete_module SYS_dup SYS_dup3 SYS_epoll_create1 SYS_epoll_ctl
    SYS_epoll_pwait SYS_epoll_pwait2 SYS_eventfd2 SYS_execve SYS_execveat SYS_exit SYS_exit_group
    SYS_faccessat SYS_faccessat2 SYS_fallocate SYS_fanotify_init SYS_fanotify_mark SYS_fchdir
    SYS_fchmod SYS_fchmodat SYS_fchown SYS_fchownat SYS_fcntl SYS_fdatasync SYS_fgetxattr
    SYS_finit_module SYS_flistxattr SYS_flock SYS_fremovexattr SYS_fsconfig SYS_fsetxattr
    SYS_fsmount SYS_fsopen SYS_fspick SYS_fstat SYS_fstatfs SYS_fsync SYS_ftruncate SYS_futex
    SYS_futex_waitv SYS_get_mempolicy SYS_get_robust_list SYS_getcpu SYS_getcwd SYS_getdents64
    SYS_getegid SYS_geteuid SYS_getgid SYS_getgroups SYS_getitimer SYS_getpeername SYS_getpgid
    SYS_getpid SYS_getppid SYS_getpriority SYS_getrandom SYS_getresgid SYS_getresuid
    SYS_getrusage SYS_getsid SYS_getsockname SYS_getsockopt SYS_gettid SYS_gettimeofday
    SYS_getuid SYS_getxattr SYS_init_module SYS_inotify_add_watch SYS_inotify_init1
    SYS_inotify_rm_watch SYS_io_cancel SYS_io_destroy SYS_io_getevents SYS_io_setup SYS_io_submit
    SYS_io_uring_enter SYS_io_uring_register SYS_io_uring_setup SYS_ioctl SYS_ioprio_get
    SYS_ioprio_set SYS_kcmp SYS_kexec_load SYS_keyctl SYS_kill SYS_landlock_add_rule
    SYS_landlock_create_ruleset SYS_landlock_restrict_self SYS_lgetxattr SYS_linkat SYS_listen
    SYS_listxattr SYS_llistxattr SYS_lookup_dcookie SYS_lremovexattr SYS_lseek SYS_lsetxattr
    SYS_madvise SYS_mbind SYS_membarrier SYS_memfd_create SYS_mincore SYS_mkdirat SYS_mknodat
    SYS_mlock SYS_mlock2 SYS_mlockall SYS_mount SYS_mount_setattr SYS_move_mount SYS_move_pages
    SYS_mprotect SYS_mq_getsetattr SYS_mq_notify SYS_mq_open SYS_mq_timedreceive SYS_mq_timedsend
    SYS_mq_unlink SYS_mremap SYS_msync SYS_munlock SYS_munlockall SYS_munmap
    SYS_name_to_handle_at SYS_nanosleep SYS_nfsservctl SYS_open_by_handle_at SYS_open_tree
    SYS_openat SYS_openat2 SYS_perf_event_open SYS_personality SYS_pidfd_getfd SYS_pidfd_open
    SYS_pidfd_send_signal SYS_pipe2 SYS_pivot_root SYS_pkey_alloc SYS_pkey_free SYS_pkey_mprotect
    SYS_ppoll SYS_prctl SYS_pread64 SYS_preadv SYS_preadv2 SYS_prlimit64 SYS_process_madvise
    SYS_process_vm_readv SYS_process_vm_writev SYS_pselect6 SYS_ptrace SYS_pwrite64 SYS_pwritev
    SYS_pwritev2 SYS_quotactl SYS_read SYS_readahead SYS_readlinkat SYS_readv SYS_reboot
    SYS_recvfrom SYS_recvmmsg SYS_recvmsg SYS_remap_file_pages SYS_removexattr SYS_renameat2
    SYS_request_key SYS_restart_syscall SYS_rt_sigaction SYS_rt_sigpending SYS_rt_sigprocmask
    SYS_rt_sigqueueinfo SYS_rt_sigreturn SYS_rt_sigsuspend SYS_rt_sigtimedwait
    SYS_rt_tgsigqueueinfo SYS_sched_get_priority_max SYS_sched_get_priority_min
    SYS_sched_getaffinity SYS_sched_getattr SYS_sched_getparam SYS_sched_getscheduler
    SYS_sched_rr_get_interval SYS_sched_setaffinity SYS_sched_setattr SYS_sched_setparam
    SYS_sched_setscheduler SYS_sched_yield SYS_seccomp SYS_sendfile SYS_sendmmsg SYS_sendmsg
    SYS_sendto SYS_set_mempolicy SYS_set_robust_list SYS_set_tid_address SYS_setdomainname
    SYS_setfsgid SYS_setfsuid SYS_setgid SYS_setgroups SYS_sethostname SYS_setitimer SYS_setns
    SYS_setpgid SYS_setpriority SYS_setregid SYS_setresgid SYS_setresuid SYS_setreuid SYS_setsid
    SYS_setsockopt SYS_settimeofday SYS_setuid SYS_setxattr SYS_shutdown SYS_sigaltstack
    SYS_signalfd4 SYS_socket SYS_socketpair SYS_splice SYS_statfs SYS_statx SYS_swapoff
    SYS_swapon SYS_symlinkat SYS_sync SYS_syncfs SYS_sysinfo SYS_syslog SYS_tee SYS_tgkill
    SYS_timer_create SYS_timer_delete SYS_timer_getoverrun SYS_timer_gettime SYS_timer_settime
    SYS_timerfd_create SYS_timerfd_gettime SYS_timerfd_settime SYS_times SYS_tkill SYS_truncate
    SYS_umask SYS_umount2 SYS_uname SYS_unlinkat SYS_unshare SYS_userfaultfd SYS_utimensat
    SYS_vhangup SYS_vmsplice SYS_wait4 SYS_waitid SYS_write SYS_writev
};

#[cfg(target_arch = "x86_64")]
const HERE: Calls = calls! {
    SYS__sysctl SYS_accept SYS_access SYS_afs_syscall SYS_alarm SYS_arch_prctl SYS_chmod
    SYS_chown SYS_creat SYS_dup2 SYS_epoll_create SYS_epoll_ctl_old SYS_epoll_wait
    SYS_epoll_wait_old SYS_eventfd SYS_fadvise64 SYS_fchmodat2 SYS_fork SYS_futimesat
    SYS_get_thread_area SYS_getdents SYS_getpgrp SYS_getpmsg SYS_getrlimit SYS_inotify_init
    SYS_ioperm SYS_iopl SYS_kexec_file_load SYS_lchown SYS_link SYS_lstat SYS_memfd_secret
    SYS_migrate_pages SYS_mkdir SYS_mknod SYS_mmap SYS_modify_ldt SYS_mseal SYS_msgctl SYS_msgget
    SYS_msgrcv SYS_msgsnd SYS_newfstatat SYS_open SYS_pause SYS_pipe SYS_poll
    SYS_process_mrelease SYS_putpmsg SYS_quotactl_fd SYS_readlink SYS_rename SYS_renameat
    SYS_rmdir SYS_rseq SYS_security SYS_select SYS_semctl SYS_semget SYS_semop SYS_semtimedop
    SYS_set_mempolicy_home_node SYS_set_thread_area SYS_setrlimit SYS_shmat SYS_shmctl SYS_shmdt
    SYS_shmget SYS_signalfd SYS_stat SYS_symlink SYS_sync_file_range SYS_sysfs SYS_time
    SYS_tuxcall SYS_unlink SYS_uselib SYS_ustat SYS_utime SYS_utimes SYS_vfork SYS_vserver
};
#[cfg(target_arch = "x86")]
const HERE: Calls = calls! {
    SYS__llseek SYS__newselect SYS__sysctl SYS_access SYS_afs_syscall SYS_alarm SYS_bdflush
    SYS_break SYS_chmod SYS_chown SYS_chown32 SYS_creat SYS_dup2 SYS_epoll_create SYS_epoll_wait
    SYS_eventfd SYS_fadvise64 SYS_fadvise64_64 SYS_fchmodat2 SYS_fchown32 SYS_fcntl64 SYS_fork
    SYS_fstat64 SYS_fstatat64 SYS_fstatfs64 SYS_ftime SYS_ftruncate64 SYS_futimesat
    SYS_get_thread_area SYS_getdents SYS_getegid32 SYS_geteuid32 SYS_getgid32 SYS_getgroups32
    SYS_getpgrp SYS_getpmsg SYS_getresgid32 SYS_getresuid32 SYS_getrlimit SYS_getuid32 SYS_gtty
    SYS_idle SYS_inotify_init SYS_ioperm SYS_iopl SYS_ipc SYS_lchown SYS_lchown32 SYS_link
    SYS_lock SYS_lstat SYS_lstat64 SYS_memfd_secret SYS_migrate_pages SYS_mkdir SYS_mknod
    SYS_mmap SYS_mmap2 SYS_modify_ldt SYS_mpx SYS_nice SYS_oldfstat SYS_oldlstat SYS_oldolduname
    SYS_oldstat SYS_olduname SYS_open SYS_pause SYS_pipe SYS_poll SYS_process_mrelease SYS_prof
    SYS_profil SYS_putpmsg SYS_quotactl_fd SYS_readdir SYS_readlink SYS_rename SYS_renameat
    SYS_rmdir SYS_select SYS_sendfile64 SYS_set_mempolicy_home_node SYS_set_thread_area
    SYS_setfsgid32 SYS_setfsuid32 SYS_setgid32 SYS_setgroups32 SYS_setregid32 SYS_setresgid32
    SYS_setresuid32 SYS_setreuid32 SYS_setrlimit SYS_setuid32 SYS_sgetmask SYS_sigaction
    SYS_signal SYS_signalfd SYS_sigpending SYS_sigprocmask SYS_sigreturn SYS_sigsuspend
    SYS_socketcall SYS_ssetmask SYS_stat SYS_stat64 SYS_statfs64 SYS_stime SYS_stty SYS_symlink
    SYS_sync_file_range SYS_sysfs SYS_time SYS_truncate64 SYS_ugetrlimit SYS_ulimit SYS_umount
    SYS_unlink SYS_uselib SYS_ustat SYS_utime SYS_utimes SYS_vfork SYS_vm86 SYS_vm86old
    SYS_vserver SYS_waitpid
};
#[cfg(target_arch = "arm")]
const HERE: Calls = calls! {
    SYS__llseek SYS__newselect SYS__sysctl SYS_accept SYS_access SYS_bdflush SYS_chmod SYS_chown
    SYS_chown32 SYS_creat SYS_dup2 SYS_epoll_create SYS_epoll_wait SYS_eventfd SYS_fchown32
    SYS_fcntl64 SYS_fork SYS_fstat64 SYS_fstatat64 SYS_fstatfs64 SYS_ftruncate64 SYS_futimesat
    SYS_getdents SYS_getegid32 SYS_geteuid32 SYS_getgid32 SYS_getgroups32 SYS_getpgrp
    SYS_getresgid32 SYS_getresuid32 SYS_getuid32 SYS_inotify_init SYS_lchown SYS_lchown32
    SYS_link SYS_lstat SYS_lstat64 SYS_memfd_secret SYS_mkdir SYS_mknod SYS_mmap2 SYS_mseal
    SYS_msgctl SYS_msgget SYS_msgrcv SYS_msgsnd SYS_nice SYS_open SYS_pause SYS_pciconfig_iobase
    SYS_pciconfig_read SYS_pciconfig_write SYS_pipe SYS_poll SYS_process_mrelease SYS_quotactl_fd
    SYS_readlink SYS_recv SYS_rename SYS_renameat SYS_rmdir SYS_semctl SYS_semget SYS_semop
    SYS_semtimedop SYS_send SYS_sendfile64 SYS_set_mempolicy_home_node SYS_setfsgid32
    SYS_setfsuid32 SYS_setgid32 SYS_setgroups32 SYS_setregid32 SYS_setresgid32 SYS_setresuid32
    SYS_setreuid32 SYS_setrlimit SYS_setuid32 SYS_shmat SYS_shmctl SYS_shmdt SYS_shmget
    SYS_sigaction SYS_signalfd SYS_sigpending SYS_sigprocmask SYS_sigreturn SYS_sigsuspend
    SYS_stat SYS_stat64 SYS_statfs64 SYS_symlink SYS_sysfs SYS_truncate64 SYS_ugetrlimit
    SYS_unlink SYS_uselib SYS_ustat SYS_utimes SYS_vfork SYS_vserver
};
#[cfg(target_arch = "aarch64")]
const HERE: Calls = calls! {
    SYS_accept SYS_fadvise64 SYS_memfd_secret SYS_migrate_pages SYS_mmap SYS_mseal SYS_msgctl
    SYS_msgget SYS_msgrcv SYS_msgsnd SYS_newfstatat SYS_process_mrelease SYS_quotactl_fd SYS_rseq
    SYS_semctl SYS_semget SYS_semop SYS_semtimedop SYS_set_mempolicy_home_node SYS_shmat
    SYS_shmctl SYS_shmdt SYS_shmget
};
#[cfg(target_arch = "riscv64")]
const HERE: Calls = calls! {
    SYS_accept SYS_fadvise64 SYS_getrlimit SYS_migrate_pages SYS_mmap SYS_msgctl SYS_msgget
    SYS_msgrcv SYS_msgsnd SYS_newfstatat SYS_rseq SYS_semctl SYS_semget SYS_semop SYS_semtimedop
    SYS_setrlimit SYS_shmat SYS_shmctl SYS_shmdt SYS_shmget SYS_sync_file_range
};
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "x86",
    target_arch = "arm",
    target_arch = "aarch64",
    target_arch = "riscv64"
)))]
const HERE: Calls = Calls { names: "", numbers: &[] };

/// The number of a call; none if this machine, or this release, does not know it.
pub(super) fn number(name: &str) -> Option<u32> {
    let find = |calls: &Calls| {
        let mut names = calls.names.split_ascii_whitespace();
        let at = names.position(|known| known.strip_prefix(PREFIX) == Some(name))?;
        u32::try_from(*calls.numbers.get(at)?).ok()
    };
    find(&EVERYWHERE).or_else(|| find(&HERE))
}

/// The largest number that this release knows, but for those that a machine has for itself alone.
pub(super) fn last() -> u32 {
    let numbers = EVERYWHERE.numbers.iter().chain(HERE.numbers);
    let numbers = numbers.filter_map(|number| u32::try_from(*number).ok());
    numbers.filter(|number| *number < OWN).max().unwrap_or(0)
}

/// From here on a machine has calls of its own. Linux: `__ARM_NR_BASE`.
pub(super) const OWN: u32 = 0xf_0000;
