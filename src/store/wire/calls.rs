//! The calls of the contract in one table: name, what a caller gives, what it is on this side and how it
//! is handed on, what is answered (and as what it travels), and the right that is needed. The remote
//! store, the server's side and the table of rights are made from it.

/// Calls `$then` with the table of calls.
macro_rules! with_calls {
    ($then:ident) => {
        $then! {
            enqueue Enqueue (batch: &Enqueue = Enqueue => &batch) -> EnqueueAnswer as EnqueueAnswer, Enqueue;
            placement Placement () -> Option<Placement> as Option<Placement>, Enqueue;
            reshard Reshard (verb: &ShardVerb = ShardVerb => &verb) -> ShardAnswer as ShardAnswer, Read;
            exchange Exchange (exchange: &Exchange = Exchange => &exchange) -> Exchanged as Exchanged, Operate;
            heartbeat Heartbeat (beat: &Heartbeat = Heartbeat => &beat) -> Beat as Beat, Operate;
            farewell Farewell (worker: WorkerId = WorkerId => worker) -> () as (), Operate;
            overdue Overdue (parked: Duration = Duration => parked, limit: usize = usize => limit)
                -> Overdue as Overdue, Operate;
            tick Tick (limit: usize = usize => limit) -> Ticked as Ticked, Operate;
            take_dirty TakeDirty (limit: usize = usize => limit, hold: Duration = Duration => hold)
                -> Vec<RunWork> as Vec<RunWork>, Operate;
            trim Trim (retention: Retention = Retention => retention, limit: usize = usize => limit)
                -> Trimmed as Trimmed, Operate;
            ask Ask (ids: &[JobId] = Vec<JobId> => &ids) -> Vec<bool> as Vec<bool>, Operate;
            asked Asked (worker: WorkerId = WorkerId => worker, limit: usize = usize => limit)
                -> Vec<Stored> as Vec<Stored>, Operate;
            note Note (notes: &[Note] = Vec<Note> => &notes) -> Vec<bool> as Vec<bool>, Operate;
            log Log (id: JobId = JobId => id, after: u64 = u64 => after) -> JobLog as JobLog, Read;
            freed Freed (limit: usize = usize => limit) -> Vec<Freed> as Vec<Freed>, Operate;
            permits Permits (requests: &[PermitRequest] = Vec<PermitRequest> => &requests)
                -> Vec<Vec<Duration>> as Vec<Vec<Duration>>, Operate;
            inform Inform (facts: &[(RunId, Vec<u8>)] = Vec<(RunId, Vec<u8>)> => &facts)
                -> Vec<bool> as Vec<bool>, Operate;
            schedules Schedules () -> (Ms, Vec<ScheduleRecord>) as (Ms, Vec<ScheduleRecord>), Read;
            set_schedule SetSchedule (commit: &ScheduleCommit = ScheduleCommit => &commit)
                -> Option<EnqueueAnswer> as Option<EnqueueAnswer>, Admin;
            drain Drain (worker: WorkerId = WorkerId => worker) -> bool as bool, Operate;
            document Document (name: &str = String => &name) -> Option<Document> as Option<Document>, Admin;
            set_document SetDocument (change: &DocumentChange = DocumentChange => &change)
                -> DocumentSet as DocumentSet, Admin;
            documents Documents (prefix: &str = String => &prefix, after: Option<&str> = Option<String> => after.as_deref(), limit: usize = usize => limit)
                -> Vec<Document> as Vec<Document>, Admin;
            acquire Acquire (request: &LockRequest = LockRequest => &request) -> Acquired as Acquired, Operate;
            extend Extend (name: &Name = Name => &name, holder: HolderId = HolderId => holder, ttl: Duration = Duration => ttl)
                -> Option<Grant> as Option<Grant>, Operate;
            release Release (name: &Name = Name => &name, holder: HolderId = HolderId => holder)
                -> bool as bool, Operate;
            locks Locks (after: Option<&Name> = Option<Name> => after.as_ref(), limit: usize = usize => limit)
                -> (Ms, Vec<LockRecord>) as (Ms, Vec<LockRecord>), Read;
            break_lock BreakLock (name: &Name = Name => &name, holder: Option<HolderId> = Option<HolderId> => holder)
                -> Vec<LockHolder> as Vec<LockHolder>, Operate;
            get Get (ids: &[JobId] = Vec<JobId> => &ids) -> Vec<Option<Stored>> as Vec<Option<Stored>>, Read;
            find Find (part: &str = String => &part, limit: usize = usize => limit)
                -> Vec<JobId> as Vec<JobId>, Read;
            newest Newest (before: Option<JobId> = Option<JobId> => before, limit: usize = usize => limit)
                -> Newest as Newest, Read;
            list List (query: &ListQuery = ListQuery => &query) -> Page<Stored> as Page<Stored>, Read;
            stats Stats () -> Vec<QueueStats> as Vec<QueueStats>, Read;
            queues Queues () -> Vec<(Name, QueueSettings)> as Vec<(Name, QueueSettings)>, Read;
            set_queue SetQueue (queue: &Name = Name => &queue, settings: &QueueSettings = QueueSettings => &settings)
                -> () as (), Operate;
            workers Workers () -> Vec<WorkerStatus> as Vec<WorkerStatus>, Read;
            run Run (id: RunId = RunId => id) -> Option<RunRecord> as Option<RunRecord>, Read;
            run_work RunWork (id: RunId = RunId => id) -> Option<RunWork> as Option<RunWork>, Operate;
            find_runs FindRuns (part: &str = String => &part, limit: usize = usize => limit)
                -> Vec<RunId> as Vec<RunId>, Read;
            runs Runs (query: &RunQuery = RunQuery => &query) -> Page<RunRecord> as Page<RunRecord>, Read;
            values Values (run: RunId = RunId => run, keys: &[String] = Vec<String> => &keys)
                -> Vec<Option<Json>> as Vec<Option<Json>>, Read;
            history History (run: RunId = RunId => run, after: Option<&Cursor> = Option<Cursor> => after.as_ref(),
                limit: usize = usize => limit) -> (Vec<Event>, Cursor) as DatedPage, Read;
            define Define (definitions: &[Definition] = Vec<Definition> => &definitions) -> () as (), Admin;
            undefine Undefine (kind: &str = String => &kind, name: &Name = Name => &name) -> bool as bool, Admin;
            definition Definition (hash: &str = String => &hash)
                -> Option<Definition> as Option<Definition>, Read;
            definitions Definitions (kind: &str = String => &kind) -> Vec<Definition> as Vec<Definition>, Read;
            events Events (after: Option<&Cursor> = Option<Cursor> => after.as_ref(), limit: usize = usize => limit)
                -> (Vec<Event>, Cursor) as DatedPage, Read;
            since Since (at: Ms = Ms => at) -> Cursor as Cursor, Read;
            tail Tail (records: usize = usize => records) -> Option<Cursor> as Option<Cursor>, Read;
            news News (after: &Cursor = Cursor => &after, limit: usize = usize => limit, wait: Duration = Duration => wait)
                -> (Vec<Event>, Cursor) as DatedPage, Read;
            health Health () -> Health as Health, Read;
            verify Verify () -> Vec<String> as Vec<String>, Operate;
        }
    };
}
pub(crate) use with_calls;

/// What a caller must be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// To look.
    Read,
    /// To add work.
    Enqueue,
    /// To do work, and what an operator does to it.
    Operate,
    /// To say what work is, and who may do what.
    Admin,
}

macro_rules! calls {
    ($($name:ident $call:ident ($($argument:ident: $given:ty = $owned:ty => $pass:expr),*)
        -> $answer:ty as $wire:ty, $right:ident;)*) => {
        /// A call of the contract, by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Call { $($call,)* }

        impl Call {
            pub const ALL: &[Call] = &[$(Call::$call,)*];

            /// As it stands in a path.
            pub fn as_str(self) -> &'static str {
                match self { $(Call::$call => stringify!($name),)* }
            }

            pub fn parse(text: &str) -> Option<Call> {
                match text { $(stringify!($name) => Some(Call::$call),)* _ => None }
            }

            /// What a caller must be allowed to do, at least: what a message holds may ask for more.
            pub fn right(self) -> Right {
                match self { $(Call::$call => Right::$right,)* }
            }
        }
    };
}
with_calls!(calls);
