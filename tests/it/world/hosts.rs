//! Host macros: each story runs on several hosts.

/// Runs each story on the embedded host, on the Worker, and on the Worker of an unkind platform.
/// Stories after `kind:` measure the cost of a platform without faults.
macro_rules! on_both_hosts {
    ($($story:ident),* $(,)? $(; kind: $($kind:ident),+ $(,)?)?) => {
        $crate::world::on_kind_hosts!($($story,)* $($($kind),+)?);

        mod unkind {
            $(
                #[test]
                fn $story() {
                    if let Some(world) = $crate::world::World::unkind() {
                        super::$story(world);
                    }
                }
            )*
        }
    };
}

/// Runs each story on hosts without faults.
macro_rules! on_kind_hosts {
    ($($story:ident),+ $(,)?) => {
        mod embedded {
            $(
                #[test]
                fn $story() {
                    super::$story($crate::world::World::new());
                }
            )+
        }

        mod worker {
            $(
                #[test]
                fn $story() {
                    if let Some(world) = $crate::world::World::worker() {
                        super::$story(world);
                    }
                }
            )+
        }
    };
}

pub(crate) use {on_both_hosts, on_kind_hosts};

/// The same for stories that start their servers themselves, with their own settings.
macro_rules! started_on_both_hosts {
    ($($story:ident),* $(,)? $(; kind: $($kind:ident),+ $(,)?)?) => {
        $crate::world::started_on_kind_hosts!($($story,)* $($($kind),+)?);

        mod unkind {
            $(
                #[test]
                fn $story() {
                    match $crate::world::worker_lacks() {
                        None => super::$story($crate::world::Host::Unkind),
                        Some(lack) => $crate::world::skipped("the Worker", lack),
                    }
                }
            )*
        }
    };
}

/// The same on hosts without faults.
macro_rules! started_on_kind_hosts {
    ($($story:ident),+ $(,)?) => {
        mod embedded {
            $(
                #[test]
                fn $story() {
                    super::$story($crate::world::Host::Embedded);
                }
            )+
        }

        mod worker {
            $(
                #[test]
                fn $story() {
                    match $crate::world::worker_lacks() {
                        None => super::$story($crate::world::Host::Worker),
                        Some(lack) => $crate::world::skipped("the Worker", lack),
                    }
                }
            )+
        }
    };
}

pub(crate) use {started_on_both_hosts, started_on_kind_hosts};
