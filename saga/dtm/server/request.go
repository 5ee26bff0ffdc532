package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// request is a request of a client.
type request struct {
	transType      transType
	gid            string
	timeout        time.Duration
	waitResult     bool
	rollbackReason string
	branchID       string
	branch         branch   // that is registered
	steps          []branch // of a saga or message
	query          string   // query_prepared of a message
	custom         custom
	retryLimit     int
	settings       settings
	listing        listing
	prefix         string // of the gids of the client

	leave func() // gives the place to another request before this one ends
}

// defaultTimeout is the timeout of a transaction that gives none, as on a DTM server.
const defaultTimeout = 35 * time.Second

func invalid(format string, arguments ...any) error {
	return fmt.Errorf("%w: %w", saga.ErrInvalid, fmt.Errorf(format, arguments...))
}

// queryOf reads the query of a GET, which has a gid.
func queryOf(r *http.Request, config Config) (*request, error) {
	query, err := parseQuery(r)
	if err != nil {
		return nil, err
	}
	if n := len(query["gid"]); n != 1 {
		return nil, invalid("the query of the request names %d gids, 1 is needed", n)
	}
	in := &request{gid: query.Get("gid")}
	return in, in.checkGID(config)
}

func parseQuery(r *http.Request) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid("the query of the request: %w", err)
	}
	return query, nil
}

// parseGID reads a body of which only the gid counts.
func parseGID(body []byte, config Config) (*request, error) {
	sent, err := parseFields(body)
	if err != nil {
		return nil, err
	}
	in := &request{}
	if err := sentFields(sent).read("gid", &in.gid); err != nil {
		return in, err
	}
	return in, in.checkGID(config)
}

// parseRequest reads the body of a POST.
func parseRequest(body []byte, config Config) (*request, error) {
	raw, err := parseFields(body)
	if err != nil {
		return nil, err
	}
	sent, in := sentFields(raw), &request{}
	var name, protocol string
	var seconds int64
	for _, f := range []field{{"gid", &in.gid}, {"trans_type", &name}, {"protocol", &protocol}, {"timeout_to_fail", &seconds}} {
		if err = sent.read(f.name, f.to); err != nil {
			return in, err
		}
	}
	if in.transType, err = parseType(name); err != nil {
		return in, err
	}
	if err = checkUses(sent, in.transType); err != nil {
		return in, err
	}
	for _, f := range []field{{"wait_result", &in.waitResult}, {"rollback_reason", &in.rollbackReason}, {"branch_id", &in.branchID}, {"data", &in.branch.Data}} {
		if err = sent.read(f.name, f.to); err != nil {
			return in, err
		}
	}
	switch {
	case protocol != "" && protocol != "http":
		return in, invalid("the protocol is %q: this server has http only", wire.Clip(protocol, 40))
	case seconds < 0 || seconds > int64(config.MaxTimeout/time.Second):
		return in, invalid("timeout_to_fail is %d seconds, it must be between 0 and %d", seconds, config.MaxTimeout/time.Second)
	}
	in.timeout = time.Duration(seconds) * time.Second
	if seconds == 0 && in.transType != sagas {
		in.timeout = min(defaultTimeout, config.MaxTimeout)
	}
	if err = in.readURLs(sent); err != nil {
		return in, err
	}
	if in.settings, err = parseSettings(sent); err != nil {
		return in, err
	}
	if in.transType == sagas || in.transType == msg {
		if err = in.readSteps(sent, config); err != nil {
			return in, err
		}
	}
	if in.transType == msg {
		if err = sent.read("query_prepared", &in.query); err != nil {
			return in, err
		}
	}
	return in, in.checkGID(config)
}

// readURLs reads the URLs of a branch that is registered.
func (in *request) readURLs(sent sentFields) error {
	in.branch.Type = in.transType.stored()
	if in.transType == xa {
		err := sent.read("url", &in.branch.Confirm)
		in.branch.Cancel = in.branch.Confirm
		return err
	}
	if err := sent.read("confirm", &in.branch.Confirm); err != nil {
		return err
	}
	return sent.read("cancel", &in.branch.Cancel)
}

// sentFields are the fields of a request.
type sentFields map[string]json.RawMessage

type field struct {
	name string
	to   any
}

// read reads a field, if it is there.
func (sent sentFields) read(name string, to any) error {
	raw := sent[name]
	if raw == nil {
		return nil
	}
	if err := json.Unmarshal(raw, to); err != nil {
		return invalid("%s is %s, which is not a valid value", name, wire.Clip(string(raw), 40))
	}
	return nil
}

// checkGID also refuses semicolons: DTM's clients remove them from a query, so a branch
// would get another gid.
func (in *request) checkGID(config Config) error {
	if err := barrier.ValidateGID(in.gid); err != nil {
		return invalid("%w", err)
	}
	if strings.Contains(in.gid, ";") {
		return invalid("the gid %q holds a semicolon, which DTM's clients remove", in.gid)
	}
	if !strings.HasPrefix(in.gid, config.GIDPrefix) {
		return invalid("the gid %q does not begin with %q, as all gids of this client do", in.gid, config.GIDPrefix)
	}
	return nil
}

// checkBranch checks the fields that only a registration has.
func (in *request) checkBranch(config Config) error {
	if err := (barrier.Key{GID: in.gid, BranchID: in.branchID}).Validate(); err != nil {
		return invalid("%w", err)
	}
	if strings.Contains(in.branchID, ";") {
		return invalid("the branch_id %q holds a semicolon, which DTM's clients remove", in.branchID)
	}
	if n := len(in.branch.Data); n > config.MaxData {
		return invalid("the data of the branch has %d bytes, %d are allowed", n, config.MaxData)
	}
	return nil
}

// listing is what a request for all asks for.
type listing struct {
	status string
	types  []transType
	filter saga.Filter
}

// listingOf reads the query of all. Its parameters are those of a DTM server.
func listingOf(r *http.Request, config Config) (*request, error) {
	query, err := parseQuery(r)
	if err != nil {
		return nil, err
	}
	for name, values := range query {
		if len(values) > 1 {
			return nil, invalid("the query of the request has the parameter %q %d times", wire.Clip(name, 40), len(values))
		}
	}
	in := &request{gid: query.Get("gid"), listing: listing{status: query.Get("status"),
		filter: saga.Filter{Prefix: config.GIDPrefix, After: query.Get("position"), Limit: 100}}}
	if in.gid != "" {
		return in, in.checkGID(config)
	}
	f := &in.listing.filter
	for t := range numTypes {
		if name := query.Get("transType"); name == "" || name == t.String() {
			in.listing.types = append(in.listing.types, t)
		}
	}
	if len(in.listing.types) == 0 {
		_, err = parseType(query.Get("transType"))
		return nil, err
	}
	if text := query.Get("limit"); text != "" {
		if f.Limit, err = strconv.Atoi(text); err != nil || f.Limit < 1 || f.Limit > 1000 {
			return nil, invalid("the limit is %q, it must be between 1 and 1000", wire.Clip(text, 20))
		}
	}
	for name, to := range map[string]*time.Time{"createTimeStart": &f.CreatedAfter, "createTimeEnd": &f.CreatedBefore} {
		text := query.Get(name)
		if text == "" {
			continue
		}
		ms, err := strconv.ParseInt(text, 10, 64)
		if err != nil || ms < 0 {
			return nil, invalid("%s is %q, it must be milliseconds since 1970", name, wire.Clip(text, 20))
		}
		*to = time.UnixMilli(ms)
	}
	return in, nil
}
