//! What there is to ask for, who may, and what is said about it in the document.

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get, post};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;

use super::admit::Needs;
use super::model::{
    AgentState, Audit, ChangeAnswer, ConfigAnswer, ConfigRequest, Drift, ExplainRequest,
    GroupState, GroupStatus, History, Missed, NoteAnswer, PauseAnswer, PlanRequest, Status, WhoAmI,
};
use super::openapi::{self, Param, Schemas};
use super::{Api, BODY_MAX, SMALL_BODY_MAX, changes, events, explain, flagger, reads, trace, wait};
use crate::agent::Verb;
use crate::config::Role;
use crate::explain::Explanation;
use crate::hooks::Occasion;
use crate::journal::{CutoverRecord, Verified};
use crate::trace::{Ended, Seen, Wanted};

type Answered = MethodRouter<Api>;

/// One thing to ask for.
pub(super) struct Route {
    pub(super) path: String,
    /// By POST, and not by GET.
    pub(super) is_post: bool,
    pub(super) needs: Needs,
    pub(super) doc: Doc,
    /// How it is answered.
    pub(super) answered: Answered,
}

/// What the document says of it.
pub(super) struct Doc {
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) params: Vec<Param>,
    pub(super) taken: Taken,
    pub(super) said: Said,
}

/// A request's body.
pub(super) enum Taken {
    Nothing,
    Maybe(Schema),
    Always(Schema),
    Change(Verb),
}

/// What comes back.
pub(super) enum Said {
    Json(Schema),
    /// When it holds.
    Awaited(Schema),
    Lines(Schema),
    Events(Schema),
    Document,
}

const GATE: &str = "decide on a gate";

/// All of them.
pub(super) fn routes() -> Vec<Route> {
    use Param::{For, Group, Id, InGroup, LastEvent, Limit, Timeout};

    vec![
        read("/v1/whoami", get(reads::whoami))
            .says("whoami", "Who asks, and what they may do")
            .json::<WhoAmI>(),
        read("/v1/status", get(reads::status))
            .says("status", "The agent, and how its groups are")
            .with(&[Group])
            .json::<Status>(),
        read("/v1/groups/{group}", get(reads::group))
            .says("group", "How one group is")
            .with(&[InGroup])
            .json::<GroupStatus>(),
        read("/v1/groups/{group}/wait", get(wait::wait))
            .says("wait", "Wait until something holds")
            .with(&[InGroup, For, Timeout])
            .awaited::<GroupStatus>(),
        read("/v1/events", get(events::events))
            .says("events", "What happens, as it happens")
            .with(&[Group, LastEvent])
            .events(),
        read("/v1/history", get(reads::history))
            .says("history", "Cut-overs, the newest first")
            .with(&[Group, Limit])
            .json::<History>(),
        read("/v1/cutovers/{id}", get(reads::cutover))
            .says("cutover", "One cut-over, with its receipt")
            .with(&[Id])
            .json::<CutoverRecord>(),
        read("/v1/audit", get(reads::audit))
            .says("audit", "Who did what, the newest first")
            .with(&[Group, Limit])
            .json::<Audit>(),
        read("/v1/audit/verify", get(reads::verify))
            .says("verifyAudit", "Whether the audit is as it was written")
            .json::<Verified>()
            .heavy(),
        read("/v1/drift", get(reads::drift))
            .says("drift", "Where kernel, record and configuration differ")
            .json::<Drift>()
            .heavy(),
        read("/openapi.json", get(document)).says("openapi", "This document"),
        read("/v1/explain", post(explain::explain))
            .says("explain", "Where a packet would go, and why")
            .takes::<ExplainRequest>()
            .json::<Explanation>()
            .heavy(),
        read("/v1/plan", post(reads::plan))
            .says("plan", "What a configuration would change")
            .may_take::<PlanRequest>()
            .json::<ConfigAnswer>()
            .heavy()
            .with_a_file(),
        switch(Verb::Flip, "flip", "flip", post(changes::flip)),
        switch(
            Verb::Rollback,
            "rollback",
            "roll back",
            post(changes::rollback),
        ),
        switch(
            Verb::Canary,
            "canary",
            "give out shares",
            post(changes::canary),
        ),
        switch(Verb::Drill, "drill", "drill", post(changes::drill)),
        switch(Verb::Abort, "abort", "abort", post(changes::abort)),
        switch(Verb::Confirm, "confirm", "confirm", post(changes::confirm)),
        switch(Verb::Extend, "extend", "extend", post(changes::extend)),
        change(Verb::Pause, "pause", "pause", post(changes::pause)).json::<PauseAnswer>(),
        change(Verb::Resume, "resume", "resume", post(changes::resume)).json::<PauseAnswer>(),
        note(Verb::Stage, "stage", "stage", post(changes::stage)),
        note(
            Verb::Schema,
            "schema",
            "record a schema",
            post(changes::schema),
        ),
        note(Verb::Freeze, "freeze", "freeze", post(changes::freeze)),
        note(
            Verb::Unfreeze,
            "unfreeze",
            "unfreeze",
            post(changes::unfreeze),
        ),
        note(Verb::Gate, "gate", GATE, post(changes::gate)),
        // The same as Flagger has it, whose document describes it.
        read("/gate/open", post(flagger::open_gate)).by(Role::Operator, GATE),
        read("/gate/close", post(flagger::close_gate)).by(Role::Operator, GATE),
        read("/rollback/open", post(flagger::open_rollback)).by(Role::Operator, GATE),
        read("/rollback/close", post(flagger::close_rollback)).by(Role::Operator, GATE),
        // It shows addresses of clients, and puts other programs onto interfaces.
        read("/v1/trace", post(trace::trace))
            .says("trace", "Decisions about real packets, live")
            .may_take::<Wanted>()
            .lines()
            .by(Role::Operator, "trace"),
        read("/v1/apply", post(changes::apply))
            .says("apply", "Take a configuration")
            .with(&[Param::DryRun, Param::IfMatch, Param::Key])
            .may_take::<ConfigRequest>()
            .json::<ConfigAnswer>()
            .by(Role::Admin, "apply")
            .with_a_file(),
    ]
}

async fn document() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], openapi::text())
}

fn switch(verb: Verb, id: &'static str, what: &'static str, answered: Answered) -> Route {
    change(verb, id, what, answered)
        .with(&[Param::Wait, Param::Timeout])
        .json::<ChangeAnswer>()
}

fn note(verb: Verb, id: &'static str, what: &'static str, answered: Answered) -> Route {
    change(verb, id, what, answered).json::<NoteAnswer>()
}

/// `…/groups/{group}/{id}`
fn change(verb: Verb, id: &'static str, what: &'static str, answered: Answered) -> Route {
    let path = format!("/v1/groups/{{group}}/{id}");
    let mut route = read(path, answered)
        .says(id, what)
        .with(&[Param::InGroup, Param::DryRun, Param::IfMatch, Param::Key])
        .by(Role::Operator, what);
    route.doc.taken = Taken::Change(verb);
    route.is_post = true;
    route
}

fn read(path: impl Into<String>, answered: Answered) -> Route {
    Route {
        path: path.into(),
        is_post: false,
        needs: Needs {
            role: Role::Viewer,
            what: "look",
            heavy: false,
            body_max: SMALL_BODY_MAX,
        },
        doc: Doc {
            id: "",
            summary: "",
            params: Vec::new(),
            taken: Taken::Nothing,
            said: Said::Document,
        },
        answered,
    }
}

/// Puts a type among those of the document, and names it.
type Schema = fn(&mut Schemas) -> RefOr<utoipa::openapi::Schema>;

impl Route {
    fn by(mut self, role: Role, what: &'static str) -> Self {
        (self.needs.role, self.needs.what) = (role, what);
        self
    }

    fn heavy(mut self) -> Self {
        self.needs.heavy = true;
        self
    }

    fn with_a_file(mut self) -> Self {
        self.needs.body_max = BODY_MAX;
        self
    }

    fn says(mut self, id: &'static str, summary: &'static str) -> Self {
        (self.doc.id, self.doc.summary) = (id, summary);
        self
    }

    fn with(mut self, params: &[Param]) -> Self {
        self.doc.params.extend(params);
        self
    }

    fn takes<T: ToSchema>(mut self) -> Self {
        (self.doc.taken, self.is_post) = (Taken::Always(Schemas::of::<T>), true);
        self
    }

    fn may_take<T: ToSchema>(mut self) -> Self {
        (self.doc.taken, self.is_post) = (Taken::Maybe(Schemas::of::<T>), true);
        self
    }

    fn json<T: ToSchema>(mut self) -> Self {
        self.doc.said = Said::Json(Schemas::of::<T>);
        self
    }

    fn awaited<T: ToSchema>(mut self) -> Self {
        self.doc.said = Said::Awaited(Schemas::of::<T>);
        self
    }

    fn lines(mut self) -> Self {
        self.doc.said = Said::Lines(|schemas| {
            schemas.of::<Seen>();
            schemas.of::<Ended>()
        });
        self
    }

    fn events(mut self) -> Self {
        self.doc.said = Said::Events(|schemas| {
            schemas.of::<Occasion>();
            schemas.of::<AgentState>();
            schemas.of::<GroupState>();
            schemas.of::<Missed>()
        });
        self
    }
}
