//! What there is to ask for, and who may.

use axum::routing::{MethodRouter, get, post};

use super::admit::Needs;
use super::{Api, BODY_MAX, SMALL_BODY_MAX, changes, events, explain, flagger, reads, trace, wait};
use crate::config::Role;

/// One thing to ask for.
pub(super) struct Route {
    pub(super) path: &'static str,
    pub(super) needs: Needs,
    /// How it is answered.
    pub(super) answered: MethodRouter<Api>,
}

const GATE: &str = "decide on a gate";

/// All of them.
pub(super) fn routes() -> Vec<Route> {
    vec![
        read("/v1/status", get(reads::status)),
        read("/v1/groups/{group}", get(reads::group)),
        read("/v1/groups/{group}/wait", get(wait::wait)),
        read("/v1/events", get(events::events)),
        read("/v1/history", get(reads::history)),
        read("/v1/cutovers/{id}", get(reads::cutover)),
        read("/v1/audit", get(reads::audit)),
        read("/v1/audit/verify", get(reads::verify)).heavy(),
        read("/v1/drift", get(reads::drift)).heavy(),
        read("/v1/explain", post(explain::explain)).heavy(),
        read("/v1/plan", post(reads::plan)).heavy().with_a_file(),
        change("/v1/groups/{group}/flip", "flip", post(changes::flip)),
        change(
            "/v1/groups/{group}/rollback",
            "roll back",
            post(changes::rollback),
        ),
        change(
            "/v1/groups/{group}/canary",
            "give out shares",
            post(changes::canary),
        ),
        change("/v1/groups/{group}/drill", "drill", post(changes::drill)),
        change("/v1/groups/{group}/abort", "abort", post(changes::abort)),
        change(
            "/v1/groups/{group}/confirm",
            "confirm",
            post(changes::confirm),
        ),
        change("/v1/groups/{group}/extend", "extend", post(changes::extend)),
        change("/v1/groups/{group}/pause", "pause", post(changes::pause)),
        change("/v1/groups/{group}/resume", "resume", post(changes::resume)),
        change("/v1/groups/{group}/stage", "stage", post(changes::stage)),
        change(
            "/v1/groups/{group}/schema",
            "record a schema",
            post(changes::schema),
        ),
        change("/v1/groups/{group}/freeze", "freeze", post(changes::freeze)),
        change(
            "/v1/groups/{group}/unfreeze",
            "unfreeze",
            post(changes::unfreeze),
        ),
        change("/v1/groups/{group}/gate", GATE, post(changes::gate)),
        // The same as Flagger has it.
        change("/gate/open", GATE, post(flagger::open_gate)),
        change("/gate/close", GATE, post(flagger::close_gate)),
        change("/rollback/open", GATE, post(flagger::open_rollback)),
        change("/rollback/close", GATE, post(flagger::close_rollback)),
        // It shows addresses of clients, and puts other programs onto interfaces.
        change("/v1/trace", "trace", post(trace::trace)),
        change("/v1/apply", "apply", post(changes::apply))
            .by(Role::Admin)
            .with_a_file(),
    ]
}

fn read(path: &'static str, answered: MethodRouter<Api>) -> Route {
    Route {
        path,
        needs: Needs {
            role: Role::Viewer,
            what: "look",
            heavy: false,
            body_max: SMALL_BODY_MAX,
        },
        answered,
    }
}

fn change(path: &'static str, what: &'static str, answered: MethodRouter<Api>) -> Route {
    Route {
        needs: Needs {
            role: Role::Operator,
            what,
            heavy: false,
            body_max: SMALL_BODY_MAX,
        },
        ..read(path, answered)
    }
}

impl Route {
    fn by(mut self, role: Role) -> Self {
        self.needs.role = role;
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
}
