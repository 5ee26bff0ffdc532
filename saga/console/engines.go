package console

import (
	"context"
	"net/http"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/console/internal/gate"
)

// kindsPage is the page of the kinds of branches.
type kindsPage struct {
	Kinds          []kindRow
	Pause, Resume  string // why the sender may not
	OtherProcesses bool   // there are other instances, which have circuits of their own
}

type kindRow struct {
	saga.KindView
	Place string // key of a text
}

var placeKeys = map[string]string{"the engine's database": "place.engine", "another database": "place.database", "another service": "place.service"}

func kinds(v *visit) error {
	overview, err := v.overview(v.r.Context())
	if err != nil {
		return err
	}
	all, err := gate.Get(v.r.Context(), &v.cache, "kinds", 2*time.Second, timeout, func(ctx context.Context) ([]saga.KindView, error) {
		return v.ops.Kinds(ctx)
	})
	if err != nil {
		return err
	}
	page := kindsPage{Pause: v.denied(PauseKind), Resume: v.denied(ResumeKind)}
	for _, k := range all {
		key := placeKeys[k.Place]
		if key == "" {
			key = "place.unknown"
		}
		page.Kinds = append(page.Kinds, kindRow{k, key})
	}
	for _, i := range overview.Instances {
		page.OtherProcesses = page.OtherProcesses || !i.This && i.Alive
	}
	return v.render("kinds", "nav.kinds", http.StatusOK, page)
}

// actOnKind pauses or resumes a kind of branch.
func actOnKind(v *visit) error {
	kind, name := v.r.PostFormValue("kind"), v.r.PostFormValue("act")
	verbs := map[string]Verb{"pause": PauseKind, "resume": ResumeKind}
	verb, ok := verbs[name]
	if !ok {
		return &problem{status: http.StatusBadRequest, key: "error.act"}
	}
	if err := v.demand(verb); err != nil {
		return err
	}
	back := v.link("kinds", nil)
	why, err := v.reason()
	if err != nil {
		return err
	}
	by := saga.Operator{Who: v.who, Why: why}
	if verb == PauseKind {
		err = v.ops.PauseKind(v.r.Context(), kind, by)
	} else {
		err = v.ops.ResumeKind(v.r.Context(), kind, by)
	}
	if err != nil {
		return withForm(err, why, back)
	}
	return v.done(string(verb), "kinds", nil)
}

// instances shows the running engines.
func instances(v *visit) error {
	overview, err := v.overview(v.r.Context())
	if err != nil {
		return err
	}
	return v.render("instances", "nav.instances", http.StatusOK, overview.Instances)
}
