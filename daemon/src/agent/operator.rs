//! Mesos' operator API of an agent: what it is, what runs on it, and the files of sandboxes.

use std::collections::BTreeMap;
use std::rc::Rc;

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use mesita_core::acls::Action;
use mesita_core::doors::Rights;
use mesita_core::resources::Amount;
use mesita_core::wire::FrameworkId;
use mesita_core::wire::agent::OperationStatus;
use mesita_isolation::images;
use mesita_isolation::isolators::Usage;
use prost::Message;

use super::AgentNode;
use super::build::asked;
use super::files;
use super::inner::Chain;
use super::site::refused;
use super::tally::Row;
use super::usage::{Also, Used};
use crate::audit::calls::at_agent;
use crate::clock;
use crate::command::shown_check;
use crate::doors::Caller;
use crate::http::body::Body;
use crate::http::media;
use crate::http::{Early, Reply, Visit, early, request, status};
use crate::logging;
use crate::pb::mesita::TaskPublic;
use crate::pb::mesos::v1 as pb;
use crate::v1::about;
use crate::v1::amounts::{double, duration_info, seconds};
use crate::v1::events::{self, framework_id};
use crate::v1::operations;
use crate::v1::reads::{KEPT, StatusOf, time};
use crate::v1::resources::{of_holder, of_wire};
use pb::agent::call::Type;
use pb::agent::response::{
    GetAgent, GetContainers, GetExecutors, GetFrameworks, GetState, GetTasks, get_containers,
    get_executors, get_frameworks,
};
use pb::agent::{Call, Response, call, response};

/// True for a call that changes nothing.
fn reads(kind: Type) -> bool {
    ["GET_", "LIST_", "READ_"].iter().any(|begin| kind.as_str_name().starts_with(begin))
}

impl AgentNode {
    /// `POST /api/v1`
    pub(super) async fn operator(self: Rc<Self>, visit: Visit) -> Reply {
        match self.operator_call(visit).await {
            Ok(reply) => reply,
            Err(reply) => *reply,
        }
    }

    async fn operator_call(self: &Rc<Self>, visit: Visit) -> Result<Reply, Early> {
        if media::is_stream(visit.request.headers()) {
            return self.attach_input(visit.request, &visit.caller).await;
        }
        let Visit { request, caller, .. } = visit;
        let (call, headers) = if caller.rights.has(Rights::OPERATE) {
            request::message::<Call>(&self.port.bodies, request).await?
        } else {
            request::short_message::<Call>(&self.port.bodies, request).await?
        };
        let kind = call.r#type();
        match at_agent(&call) {
            Some((what, of)) => caller.heed.asks(what, of),
            None if kind == Type::Unknown => {}
            None => caller.heed.done(),
        }
        if call.r#type.is_none() || kind == Type::Unknown {
            return Err(invalid("type"));
        }
        if let Some(answer) = self.container_call(&call, &headers, &caller).await {
            return answer;
        }
        // Whoever may read what was there before this API may read it here, as far as that goes.
        if !reads(kind) && !caller.rights.has(Rights::OPERATE) {
            let message = "only root and the agent's own user may operate the agent";
            return Err(early(StatusCode::FORBIDDEN, message));
        }
        if let Some(set) = &call.set_logging_level
            && kind == Type::SetLoggingLevel
        {
            self.options.access.check(&caller, Action::SetLogLevel, None)?;
            let set = logging::asked(&self.tasks, set.level, &set.duration);
            set.map_err(|why| early(StatusCode::BAD_REQUEST, why))?;
            return Ok(status(StatusCode::OK));
        }
        if kind == Type::PruneImages {
            self.options.access.check(&caller, Action::PruneImages, None)?;
            let excluded = call.prune_images.as_ref().map_or(&[][..], |one| &one.excluded_images);
            let names =
                excluded.iter().filter_map(|image| Some(image.docker.as_ref()?.name.clone()));
            let pruned = self.prune_images(names.collect()).await;
            let pruned = pruned.map_err(|why| early(StatusCode::BAD_REQUEST, why))?;
            let images::Pruned { images, layers, bytes } = pruned;
            log::info!("images pruned: {images}, with {layers} layers of {bytes} bytes");
            return Ok(status(StatusCode::OK));
        }
        let media = request::asked(&headers)?;
        let response = self.respond(&call, &caller).await?;
        let mut reply = Reply::new(Body::of(media.write(&response)));
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media.name()));
        Ok(reply)
    }

    #[allow(deprecated)] // Calls that Mesos has given up are named, too.
    async fn respond(self: &Rc<Self>, call: &Call, caller: &Caller) -> Result<Response, Early> {
        let mut told = Response::default();
        use response::Type as Of;
        match call.r#type() {
            Type::GetHealth => {
                told.set_type(Of::GetHealth);
                told.get_health = Some(response::GetHealth { healthy: true });
            }
            Type::GetFlags => {
                self.options.access.check(caller, Action::ViewFlags, None)?;
                told.set_type(Of::GetFlags);
                let flags = about::flags(&self.options.flags);
                told.get_flags = Some(response::GetFlags { flags });
            }
            Type::GetVersion => {
                told.set_type(Of::GetVersion);
                told.get_version = Some(response::GetVersion { version_info: about::version() });
            }
            Type::GetMetrics => {
                told.set_type(Of::GetMetrics);
                let metrics = about::metrics(&self.snapshot());
                told.get_metrics = Some(response::GetMetrics { metrics });
            }
            Type::GetLoggingLevel => {
                told.set_type(Of::GetLoggingLevel);
                let level = logging::level();
                told.get_logging_level = Some(response::GetLoggingLevel { level });
            }
            Type::ListFiles => {
                told.set_type(Of::ListFiles);
                let list = call.list_files.as_ref().ok_or_else(|| invalid("list_files"))?;
                told.list_files = Some(self.list_files(&list.path, caller).await?);
            }
            Type::ReadFile => {
                told.set_type(Of::ReadFile);
                let read = call.read_file.as_ref().ok_or_else(|| invalid("read_file"))?;
                told.read_file = Some(self.read_part(read, caller).await?);
            }
            Type::GetState => {
                told.set_type(Of::GetState);
                told.get_state = Some(GetState {
                    get_tasks: Some(self.told_tasks(caller)),
                    get_executors: Some(self.told_executors(caller)),
                    get_frameworks: Some(self.told_frameworks(caller)),
                });
            }
            Type::GetContainers => {
                told.set_type(Of::GetContainers);
                let asked = call.get_containers.unwrap_or_default();
                let also =
                    Also { nested: asked.show_nested(), standalone: asked.show_standalone() };
                told.get_containers = Some(self.told_containers(also, caller).await);
            }
            Type::GetFrameworks => {
                told.set_type(Of::GetFrameworks);
                told.get_frameworks = Some(self.told_frameworks(caller));
            }
            Type::GetExecutors => {
                told.set_type(Of::GetExecutors);
                told.get_executors = Some(self.told_executors(caller));
            }
            Type::GetOperations => {
                told.set_type(Of::GetOperations);
                told.get_operations = Some(self.told_operations(caller));
            }
            Type::GetTasks => {
                told.set_type(Of::GetTasks);
                told.get_tasks = Some(self.told_tasks(caller));
            }
            Type::GetAgent => {
                told.set_type(Of::GetAgent);
                told.get_agent = Some(self.told_agent());
            }
            Type::GetResourceProviders => {
                told.set_type(Of::GetResourceProviders);
                told.get_resource_providers = Some(response::GetResourceProviders::default());
            }
            Type::SetLoggingLevel => return Err(invalid("set_logging_level")),
            Type::PruneImages => return Err(invalid("prune_images")),
            Type::Unknown
            | Type::LaunchNestedContainer
            | Type::WaitNestedContainer
            | Type::KillNestedContainer
            | Type::RemoveNestedContainer
            | Type::LaunchNestedContainerSession
            | Type::AttachContainerInput
            | Type::AttachContainerOutput
            | Type::LaunchContainer
            | Type::WaitContainer
            | Type::KillContainer
            | Type::RemoveContainer
            | Type::AddResourceProviderConfig
            | Type::UpdateResourceProviderConfig
            | Type::RemoveResourceProviderConfig
            | Type::MarkResourceProviderGone => {
                let name = call.r#type().as_str_name();
                let message = format!("{name} is not supported by this release");
                return Err(early(StatusCode::NOT_IMPLEMENTED, message));
            }
        }
        Ok(told)
    }

    pub(super) fn told_agent(&self) -> GetAgent {
        let drain = self.tally.drain();
        GetAgent {
            agent_info: Some(self.agent_info()),
            drain_config: drain.map(|drain| pb::DrainConfig {
                max_grace_period: drain.grace_us.map(duration_info),
                mark_gone: Some(drain.gone),
            }),
            estimated_drain_start_time: drain.map(|drain| time(drain.since_us)),
        }
    }

    /// Operations whose end was not acknowledged, of frameworks that the caller sees.
    fn told_operations(&self, caller: &Caller) -> response::GetOperations {
        let open = self.options.access.is_open(&[Action::ViewFramework]);
        let seen = self.frameworks_seen(caller, self.executors.frameworks());
        let sees = |of: &FrameworkId| open || seen.iter().any(|(id, _)| id == of);
        let all = self.tally.operations().into_iter().filter(|(framework, _)| sees(framework));
        let cluster = self.cluster();
        let told = all.filter_map(|(framework, one)| {
            operations::ended(framework, &one.read::<OperationStatus<'_>>()?, cluster)
        });
        response::GetOperations { operations: told.collect() }
    }

    fn told_frameworks(&self, caller: &Caller) -> GetFrameworks {
        let known = self.frameworks_seen(caller, self.executors.frameworks()).into_iter();
        let frameworks =
            known.map(|(_, framework_info)| get_frameworks::Framework { framework_info }).collect();
        let gone = self.frameworks_seen(caller, self.executors.completed()).into_iter();
        let completed_frameworks =
            gone.map(|(_, framework_info)| get_frameworks::Framework { framework_info }).collect();
        GetFrameworks { frameworks, completed_frameworks }
    }

    /// Executors; a command runs under one of its own name. Mesos: `Slave::getExecutorInfo`.
    fn told_executors(&self, caller: &Caller) -> GetExecutors {
        let command = |row: &Row| get_executors::Executor {
            executor_info: pb::ExecutorInfo {
                resources: of_wire(&row.resources.list(), &row.role, KEPT),
                ..self.command_executor(row)
            },
        };
        let commands = |rows: Vec<Row>| -> Vec<get_executors::Executor> {
            rows.iter().filter(|row| row.executor.is_empty()).map(command).collect()
        };
        let mut executors = commands(self.with_executors_seen(caller, self.tally.tasks()));
        let cluster = self.cluster();
        executors.extend(self.executors_seen(caller).into_iter().map(|one| {
            let described = one.described();
            let executor_info = pb::ExecutorInfo {
                framework_id: Some(framework_id(one.framework, cluster)),
                resources: of_holder(&one.resources.list(), &one.role, KEPT, &described.resources),
                ..described
            };
            get_executors::Executor { executor_info }
        }));
        let over = self.with_executors_seen(caller, self.tally.completed());
        GetExecutors { executors, completed_executors: commands(over) }
    }

    fn told_tasks(&self, caller: &Caller) -> GetTasks {
        let mut told = GetTasks::default();
        let is_own = |row: &Row| self.is_of(row.framework, caller);
        for row in self.tasks_seen(caller).into_iter().filter(is_own) {
            let over = row.state.is_terminal();
            let into = match over {
                true => &mut told.terminated_tasks,
                false if self.is_queued(&row) => &mut told.queued_tasks,
                false => &mut told.launched_tasks,
            };
            into.push(self.told_task(&row));
        }
        let completed = self.completed_seen(caller).into_iter().filter(is_own);
        told.completed_tasks = completed.map(|row| self.told_task(&row)).collect();
        told
    }

    fn told_task(&self, row: &Row) -> pb::Task {
        let public = TaskPublic::decode(&*row.public).unwrap_or_default();
        let agent_id = self.agent_info().id.unwrap_or_default();
        let state = self.state_of(row);
        let executor = if row.executor.is_empty() { &row.name } else { &row.executor };
        let (agent, cluster) = self.containers.id().unwrap_or_default();
        let own = events::contained(row.container, &self.options.address);
        let pid = self.containers.pid(row.container);
        let of = StatusOf {
            cluster,
            task: &row.name,
            executor,
            agent,
            container: Some(pb::ContainerStatus {
                network_infos: match self.address_of(row.container) {
                    Some(ip) => vec![events::network_info(ip)],
                    None => own.network_infos,
                },
                ..container_status(&row.at().into(), pid)
            }),
            check: public.check,
        };
        let statuses = self.statuses_of(row);
        let mut told = pb::Task {
            name: public.name.unwrap_or_default(),
            task_id: pb::TaskId { value: row.name.clone() },
            framework_id: framework_id(row.framework, self.cluster()),
            executor_id: (!row.executor.is_empty())
                .then(|| pb::ExecutorId { value: row.executor.clone() }),
            agent_id,
            resources: of_holder(&row.resources.list(), &row.role, KEPT, &public.read_only),
            statuses: statuses.iter().map(|(state, one)| of.told(*state, one)).collect(),
            status_update_state: Some(events::state(state).into()),
            labels: public.labels,
            discovery: public.discovery,
            container: public.container,
            health_check: public.health_check.map(shown_check),
            kill_policy: public.kill_policy,
            limits: public.limits,
            user: public.user,
            ..pb::Task::default()
        };
        told.status_update_uuid = told.statuses.last().and_then(|status| status.uuid.clone());
        told.set_state(events::state(state));
        told
    }

    async fn told_containers(self: &Rc<Self>, also: Also, caller: &Caller) -> GetContainers {
        let cluster = self.cluster();
        let used = self.used(also).await;
        let seen = used.into_iter().filter(|one| self.sees_container(one.framework, caller));
        let containers = seen.map(|one| get_containers::Container {
            framework_id: (!one.framework.is_none()).then(|| framework_id(one.framework, cluster)),
            executor_id: (!one.executor.is_empty())
                .then(|| pb::ExecutorId { value: one.executor.clone() }),
            executor_name: (!one.executor.is_empty()).then(|| one.executor_name.clone()),
            container_id: one.chain.told(),
            container_status: Some(container_status(&one.chain, one.pid)),
            resource_statistics: Some(statistics(&one)),
        });
        GetContainers { containers: containers.collect() }
    }

    async fn list_files(&self, path: &str, caller: &Caller) -> Result<response::ListFiles, Early> {
        let query = BTreeMap::from([("path".to_owned(), path.to_owned())]);
        let (sandbox, inside, shown) = self.located(&query, caller)?;
        let browse = move || files::browse(&sandbox, &inside, &shown);
        let listed = self.containers.by_hand(browse).await.map_err(|bad| refused(&bad))?;
        let file_infos = listed.into_iter().map(|one| pb::FileInfo {
            path: one.path,
            nlink: i32::try_from(one.nlink).ok(),
            size: Some(one.size),
            mtime: Some(time(one.mtime_us)),
            mode: Some(one.bits),
            uid: Some(one.uid),
            gid: Some(one.gid),
        });
        Ok(response::ListFiles { file_infos: file_infos.collect() })
    }

    async fn read_part(
        &self,
        asked: &call::ReadFile,
        caller: &Caller,
    ) -> Result<response::ReadFile, Early> {
        let query = BTreeMap::from([("path".to_owned(), asked.path.clone())]);
        let (sandbox, inside, _) = self.located(&query, caller)?;
        let (offset, length) = (asked.offset, asked.length.unwrap_or(files::PAGE));
        let read = move || {
            let (file, size) = files::open_file(&sandbox, &inside)?;
            Ok((files::read(&file, offset, length)?, size))
        };
        let read = self.containers.by_hand(read).await;
        let (data, size) = read.map_err(|bad: files::BadPath| refused(&bad))?;
        Ok(response::ReadFile { size, data })
    }
}

fn invalid(what: &str) -> Early {
    let message = format!("Failed to validate agent::Call: Expecting '{what}' to be present");
    early(StatusCode::BAD_REQUEST, message)
}

fn container_status(chain: &Chain, executor_pid: Option<u32>) -> pb::ContainerStatus {
    let container_id = Some(chain.told());
    pb::ContainerStatus { container_id, executor_pid, ..pb::ContainerStatus::default() }
}

/// What a container reads from and writes to disks, all of them together.
fn disks(usage: &Usage) -> Option<pb::cgroup_info::blkio::Statistics> {
    use pb::cgroup_info::blkio::{Operation, Value, throttling};
    let values = |read: Option<u64>, write: Option<u64>| {
        let total = Some(read?.saturating_add(write?));
        let of = |op: Operation, value| Value { op: Some(op.into()), value };
        let all = [(Operation::Total, total), (Operation::Read, read), (Operation::Write, write)];
        Some(all.map(|(op, value)| of(op, value)).to_vec())
    };
    let throttling = throttling::Statistics {
        device: None,
        io_serviced: values(usage.io_reads, usage.io_writes)?,
        io_service_bytes: values(usage.io_read_bytes, usage.io_written_bytes)?,
    };
    Some(pb::cgroup_info::blkio::Statistics { throttling: vec![throttling], ..Default::default() })
}

/// Memory and what lies in swap, where both are told.
fn with_swap(usage: &Usage) -> Option<u64> {
    Some(usage.mem_bytes?.saturating_add(usage.swap_bytes?))
}

/// What a container uses, and may use. Mesos: `MesosContainerizerProcess::usage`.
pub(super) fn statistics(one: &Used) -> pb::ResourceStatistics {
    let held = one.resources.iter().map(|held| asked(&held.list()));
    let (cpus_milli, mem_bytes) = held.fold(one.asked, |(cpus, mem), one| {
        (cpus.saturating_add(one.0), mem.saturating_add(one.1))
    });
    let cpus = |milli| double(Amount::from_milli(milli));
    let count = |value: Option<u64>| value.and_then(|value| u32::try_from(value).ok());
    pb::ResourceStatistics {
        timestamp: seconds(clock::wall_us()),
        cpus_limit: one.usage.cpus_limit_milli.map(cpus),
        cpus_soft_limit: Some(cpus(cpus_milli)),
        mem_soft_limit_bytes: Some(mem_bytes),
        cpus_user_time_secs: one.usage.user_us.map(seconds),
        cpus_system_time_secs: one.usage.system_us.map(seconds),
        cpus_nr_periods: count(one.usage.periods),
        cpus_nr_throttled: count(one.usage.throttled_periods),
        cpus_throttled_time_secs: one.usage.throttled_us.map(seconds),
        mem_rss_bytes: one.usage.rss_bytes,
        mem_total_bytes: one.usage.mem_bytes,
        mem_total_memsw_bytes: with_swap(&one.usage),
        mem_limit_bytes: one.usage.mem_limit_bytes,
        processes: count(one.usage.processes),
        threads: count(one.usage.threads),
        mem_anon_bytes: one.usage.rss_bytes,
        mem_file_bytes: one.usage.file_bytes,
        mem_cache_bytes: one.usage.file_bytes,
        mem_mapped_file_bytes: one.usage.mapped_bytes,
        mem_swap_bytes: one.usage.swap_bytes,
        mem_kmem_usage_bytes: one.usage.kernel_bytes,
        mem_kmem_tcp_usage_bytes: one.usage.socket_bytes,
        mem_unevictable_bytes: one.usage.unevictable_bytes,
        disk_used_bytes: one.usage.disk_bytes,
        disk_limit_bytes: one.usage.disk_limit_bytes,
        blkio_statistics: disks(&one.usage),
        net_rx_bytes: one.usage.net_received_bytes,
        net_rx_packets: one.usage.net_received,
        net_rx_dropped: one.usage.net_unreceived,
        net_rx_errors: one.usage.net_received_errors,
        net_tx_bytes: one.usage.net_sent_bytes,
        net_tx_packets: one.usage.net_sent,
        net_tx_dropped: one.usage.net_unsent,
        net_tx_errors: one.usage.net_sent_errors,
        net_rx_rate_limit: one.usage.net_received_limit,
        net_tx_rate_limit: one.usage.net_sent_limit,
        ..pb::ResourceStatistics::default()
    }
}
