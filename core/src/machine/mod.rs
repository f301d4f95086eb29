//! The replicated state machine: the only code that changes a [`State`].
//!
//! Each family of commands has a file. Every one of them checks first and changes after, so that
//! a rejection changes nothing; none of them reads a clock, draws an id or panics.

mod agents;
mod apps;
mod assign;
mod away;
mod backoff;
mod callbacks;
mod deployments;
mod draft;
mod drain;
mod groups;
mod instances;
mod membership;
mod removal;
mod resize;
mod rollback;
mod rollouts;
mod scope;
mod secrets;
mod service_ports;
mod status;

pub use apps::preview;
pub(crate) use backoff::after_failure;
pub use callbacks::CALLBACKS_MAX;
pub use deployments::DEPLOYMENTS_MAX;
pub(crate) use instances::{addable_current, addable_stable};
pub use secrets::{SECRETS_BYTES_MAX, SECRETS_MAX};
pub use service_ports::{SERVICE_PORT_BEGIN, SERVICE_PORT_END};

use crate::command::{Command, Entry, Rejection};
use crate::event::Event;
use crate::model::State;
use apps::{Request, Unlocks};

/// Apply one committed entry.
///
/// # Errors
/// The command is refused; but for `applied_index` and `now` the state is as it was.
pub fn apply(state: &mut State, entry: &Entry) -> Result<Vec<Event>, Rejection> {
    // Cluster time never goes back: a new leader's clock may be behind the last one's.
    state.now = state.now.max(entry.now);
    state.applied_index = entry.index;
    match &entry.command {
        Command::Found { cluster, founder } => membership::found(state, cluster, founder),
        Command::AdmitNode { node } => membership::admit(state, node),
        Command::RotateToken { join_secret_sha256, sealed } => {
            membership::rotate_token(state, join_secret_sha256, sealed.as_ref())
        }
        Command::RemoveNode { node_id, join_secret_sha256, sealed } => {
            removal::remove_node(state, node_id, join_secret_sha256, sealed.as_ref())
        }
        Command::ReplaceKeys { keys } => removal::replace_keys(state, keys),
        Command::RegisterAgent { agent } => membership::register_agent(state, agent),
        Command::SetReachable { agent_id, reachable } => {
            away::set_reachable(state, agent_id, *reachable)
        }
        Command::ChangeApps { deployment_id, changes, force } => {
            apps::change(state, deployment_id, changes, *force)
        }
        Command::ChangeGroup { deployment_id, group, groups, apps, force, replaces } => {
            let (force, replaces) = (*force, replaces.as_ref());
            let unlocks = Unlocks { replaces, unchanged: false };
            let undoes = None;
            let request = Request { deployment_id, groups, apps, force, unlocks, undoes };
            groups::change(state, group, &request)
        }
        Command::EnforceRole { group, enforce } => groups::enforce_role(state, group, *enforce),
        Command::AdvanceDeployment { id, from_step } => deployments::advance(state, id, *from_step),
        Command::CancelDeployment { id } => deployments::cancel(state, id),
        Command::AddInstances { app_id, ids } => instances::add(state, app_id, ids),
        Command::Decommission { ids } => Ok(instances::decommission(state, ids)),
        Command::Assign { assignments } => Ok(assign::assign(state, assignments)),
        Command::RecordStatus { statuses } => Ok(status::record(state, statuses)),
        Command::ResetDelay { app_id } => deployments::reset_delay(state, app_id),
        Command::AddCallback { url } => callbacks::add(state, url),
        Command::RemoveCallback { url } => Ok(callbacks::remove(state, url)),
        Command::KeepDataKey { id, node_id, copy } => {
            secrets::keep_data_key(state, id, node_id, copy)
        }
        Command::KeepAuthority { key_id, authority, join_token } => {
            membership::keep_authority(state, key_id, authority, join_token)
        }
        Command::PutSecret { name, key_id, value } => secrets::put(state, name, key_id, value),
        Command::RemoveSecret { name } => secrets::remove(state, name),
        Command::Deactivate { ids } => Ok(away::deactivate(state, ids)),
        Command::Expunge { ids } => Ok(away::expunge(state, ids)),
        Command::ChangeAgent { agent_id, change } => agents::change(state, agent_id, change),
        Command::Resize { app_id, ids } => resize::begin(state, app_id, ids),
        Command::Wipe { ids } => Ok(instances::wipe(state, ids)),
        Command::GiveUpVolume { agent_id, id } => instances::give_up(state, agent_id, id),
        Command::ForgetVolumes { agent_id, ids } => {
            instances::forget_volumes(state, agent_id, ids);
            Ok(Vec::new())
        }
        Command::RollBack { id, deployment_id, reason } => {
            rollback::roll_back(state, id, deployment_id, reason)
        }
        Command::ReviewRollouts { id } => rollouts::record(state, id),
        Command::Promote { id } => rollouts::promote(state, id),
        Command::Drain { agent_id } => drain::drain(state, agent_id),
        Command::Undrain { agent_id } => drain::undrain(state, agent_id),
        Command::Rebalance { task_id } => Ok(drain::rebalance(state, task_id)),
        Command::EndRebalance { task_ids } => Ok(drain::end_rebalance(state, task_ids)),
        Command::AddStable { app_id, ids } => instances::add_stable(state, app_id, ids),
    }
}
