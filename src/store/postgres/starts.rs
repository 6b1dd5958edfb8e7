//! What reaches beyond one run: new runs, also those that an advance starts, their gates, and facts for
//! others. In an open transaction and one call after the other, for each answer decides what follows.

use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::columns::{EffectColumns, key, limit, placeholders, run_uuid};
use super::errors::Fault;
use super::names::Names;
use super::pool::Param;
use super::steps::reaches_out;
use crate::domain::{Name, RunId};
use crate::store::contract::{Effects, Enqueued, NewRun};

/// The queues of all jobs that effects bring, those of the runs that they start among them.
pub(super) fn queues<'a>(effects: &'a Effects, into: &mut Vec<&'a Name>) {
    into.extend(effects.jobs.iter().map(|job| &job.queue));
    for new in &effects.runs {
        queues(&new.effects, into);
    }
}

/// Whether a run may be started as one of a batch.
pub(super) fn is_plain(new: &NewRun) -> bool {
    new.gate.is_none() && !reaches_out(&new.effects)
}

/// Starts one run, and what it starts in turn.
pub(super) async fn start(client: &Client, new: &NewRun, names: &Names) -> Result<Enqueued, Fault> {
    let id = run_uuid(new.effects.record.id);
    let gate = new.gate.as_ref();
    let (its_key, most) = (gate.map(|gate| key(&gate.key)), gate.map(|gate| limit(gate.limit)));
    let go = gate.map(|gate| gate.go.as_slice());
    let rejects = gate.is_some_and(|gate| gate.reject.is_some());
    let mut columns = EffectColumns::default();
    columns.push(Some(&new.effects), names)?;
    let mut params: Vec<Param<'_>> = vec![
        (&id, Type::UUID),
        (&its_key, Type::BYTEA),
        (&most, Type::INT4),
        (&go, Type::BYTEA),
        (&rejects, Type::BOOL),
    ];
    params.extend(columns.params());
    let sql = format!("SELECT goflow.start_run({})", placeholders(1, params.len()));
    match client.query_typed_one(&sql, &params).await?.get::<_, i16>(0) {
        0 => reach_out(client, &new.effects, names).await.map(|()| Enqueued::Created),
        1 => Ok(Enqueued::Exists),
        _ => Ok(Enqueued::Busy),
    }
}

/// Carries out what effects do to other runs.
pub(super) async fn reach_out(client: &Client, effects: &Effects, names: &Names) -> Result<(), Fault> {
    for new in &effects.runs {
        let started = Box::pin(start(client, new, names)).await?;
        let refused = new.gate.as_ref().and_then(|gate| gate.reject.as_ref());
        if let (Enqueued::Busy, Some(fact)) = (started, refused) {
            tell(client, &[(effects.record.id, fact.clone())]).await?;
        }
    }
    if !effects.tell.is_empty() {
        tell(client, &effects.tell).await?;
    }
    Ok(())
}

/// Whether a run that has advanced, and told something perhaps to itself, has more to drain.
pub(super) async fn look_again(client: &Client, run: RunId) -> Result<bool, Fault> {
    let row = client.query_typed_one("SELECT goflow.look_again($1)", &[(&run_uuid(run), Type::UUID)]).await?;
    Ok(row.get(0))
}

/// Puts facts into inboxes. Answers which of the runs there are.
pub(super) async fn tell(client: &Client, facts: &[(RunId, Vec<u8>)]) -> Result<Vec<Uuid>, Fault> {
    let (runs, facts): (Vec<Uuid>, Vec<&[u8]>) =
        facts.iter().map(|(run, fact)| (run_uuid(*run), fact.as_slice())).unzip();
    let params: [Param<'_>; 2] = [(&runs, Type::UUID_ARRAY), (&facts, Type::BYTEA_ARRAY)];
    Ok(client.query_typed_one("SELECT goflow.inform($1, $2)", &params).await?.get(0))
}
