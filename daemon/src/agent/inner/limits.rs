//! What containers use that have limits of their own, and what becomes of those that run into one.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use mesita_isolation::Error;
use mesita_isolation::isolators::{Limitation, Usage};

use super::{Class, Inner, SIGKILL};
use crate::agent::AgentNode;
use crate::agent::usage::{Also, Used};
use crate::agent::watch::Watch;

impl AgentNode {
    /// Waits for the kernel to say that one ran into a limit of its own, and ends it then.
    pub(super) fn watch_inner(&self, inner: &Rc<Inner>) {
        if !inner.apart && inner.class != Class::Standalone {
            return;
        }
        let Some(me) = self.me.upgrade() else { return };
        let inner = Rc::clone(inner);
        self.tasks.go(async move {
            match me.watches_of(&inner).await {
                Ok(watches) => {
                    let watches = watches.into_iter().filter_map(|watch| Watch::new(watch).ok());
                    watches.for_each(|watch| me.watch_one(&inner, watch));
                }
                Err(error) => log::warn!("container {}: {error}", inner.chain),
            }
        });
    }

    fn watch_one(&self, inner: &Rc<Inner>, watch: Watch) {
        let Some(me) = self.me.upgrade() else { return };
        let inner = Rc::clone(inner);
        self.tasks.go(async move {
            let ended = async {
                inner.ended().await;
                None
            };
            let limited = watch.until(async || me.limitation_of(&inner).await.ok().flatten());
            if let Some(limitation) = futures_lite::future::or(limited, ended).await {
                *inner.limited.borrow_mut() = Some(limitation.into());
                me.signal_inner(&inner, SIGKILL).await;
            }
        });
    }

    async fn watches_of(&self, inner: &Inner) -> Result<Vec<OwnedFd>, Error> {
        let (isolation, part, class) = (self.containers.isolation(), inner.part(), inner.class);
        let watch = move || match class {
            Class::Standalone => isolation.watch(part.id),
            Class::Nested | Class::Session => isolation.watch_enclosed(part),
        };
        self.containers.by_hand(watch).await
    }

    async fn limitation_of(&self, inner: &Inner) -> Result<Option<Limitation>, Error> {
        let (isolation, part, class) = (self.containers.isolation(), inner.part(), inner.class);
        let look = move || match class {
            Class::Standalone => isolation.limitation(part.id),
            Class::Nested | Class::Session => isolation.limitation_enclosed(part, None),
        };
        self.containers.by_hand(look).await
    }

    async fn usage_apart(&self, inner: &Inner) -> Usage {
        let (isolation, part) = (self.containers.isolation(), inner.part());
        self.containers.by_hand(move || isolation.usage_enclosed(part)).await.unwrap_or_default()
    }

    /// Those that run, as they are shown among other containers.
    pub(in crate::agent) async fn shown_inner(&self, also: Also) -> Vec<Used> {
        let mut shown = Vec::new();
        let wanted = |inner: &Inner| match inner.class {
            Class::Standalone => also.standalone,
            Class::Nested | Class::Session => also.nested,
        };
        for inner in self.inners.all(|inner| wanted(inner) && !inner.is_over()) {
            let usage = match inner.class {
                Class::Standalone => self.usage_of(inner.id.into()).await,
                Class::Nested | Class::Session if inner.apart => self.usage_apart(&inner).await,
                // What it uses counts as its root's.
                Class::Nested | Class::Session => Usage::default(),
            };
            let names = self.containers.names(inner.root.id);
            let executor = if names.executor.is_empty() { names.task } else { names.executor };
            let (framework, chain) = (inner.framework, inner.chain.clone());
            let (executor_name, source) = (executor.clone(), executor.clone());
            shown.push(Used {
                framework,
                executor,
                executor_name,
                source,
                chain,
                pid: None,
                resources: Vec::new(),
                asked: inner.asked,
                usage,
            });
        }
        shown
    }
}
