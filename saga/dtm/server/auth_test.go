package server_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/dtm-labs/client/dtmcli"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/dtm/server"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

const (
	oldToken = "the-old-token-of-shop"
	newToken = "the-new-token-of-shop"
	password = "a-password-with-24-chars"
)

func newGuardedBank(t *testing.T) *bank {
	t.Helper()
	return newBank(t, sqltest.Open(t, "sqlite"), func(config *server.Config, _ *embedded.Config) {
		config.GIDPrefix = "s-"
		config.Credentials = []server.Credential{
			{Token: oldToken, GIDPrefix: "s-shop-"}, {Token: newToken, GIDPrefix: "s-shop-"},
			{User: "watch", Password: password, ReadOnly: true}, {User: "bank", Password: password},
		}
	})
}

func bearer(token string) http.Header {
	return http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + token}}
}

func basic(user, password string) http.Header {
	r := http.Request{Header: http.Header{"Content-Type": {"application/json"}}}
	r.SetBasicAuth(user, password)
	return r.Header
}

// Who sends no credential, or a wrong one, gets to know nothing.
func TestClientsAreAuthenticated(t *testing.T) {
	t.Parallel()
	b := newGuardedBank(t)
	with := func(values ...string) http.Header {
		return http.Header{"Content-Type": {"application/json"}, "Authorization": values}
	}
	for name, header := range map[string]http.Header{
		"none": with(), "two": with("Bearer "+newToken, "Bearer "+newToken), "empty": with(""), "no token": with("Bearer "), "no scheme": with(newToken),
		"a wrong token": bearer("the-new-token-of-shoP"), "a longer token": bearer(newToken + "x"), "a shorter token": bearer(newToken[:20]),
		"a password as a token": bearer(password), "user and password as a token": bearer("watch:" + password), "a token as a password": basic("", newToken),
		"a wrong password": basic("watch", password+"x"), "no password": basic("watch", ""), "a wrong user": basic("watc", "h:"+password), "no user": basic("", password),
		"half of basic": with("Basic d2F0Y2g="), "no base64": with("Basic watch:" + password), "digest": with("Digest username=\"watch\""),
	} {
		for _, path := range []string{"newGid", "version", "query?gid=s-shop-a", "all", "prepare", "submit", "subscribe", "nothing", ""} {
			method, body := http.MethodGet, ""
			if path == "prepare" || path == "submit" {
				method, body = http.MethodPost, `{"gid":"s-shop-a","trans_type":"tcc"}`
			}
			status, text := b.send(method, path, body, header)
			if status != http.StatusUnauthorized || strings.Contains(text, newToken) || strings.Contains(text, password) || !strings.Contains(text, "uthorization") && !strings.Contains(text, "does not know") {
				t.Errorf("%s: %s: %d %s", name, path, status, text)
			}
		}
	}
	reply, err := http.Get(b.dtm() + "/version")
	sagatest.Must(t, err)
	reply.Body.Close()
	if got := reply.Header.Values("Www-Authenticate"); len(got) != 2 || !strings.HasPrefix(got[0], "Bearer") || !strings.HasPrefix(got[1], "Basic") {
		t.Errorf("%q", got)
	}
	b.says(401, "Authorization")(b.send(http.MethodPost, "prepare", strings.Repeat("x", 1000), with()))
}

// Each credential has its rights; two may be valid for one client while it changes them.
func TestRightsOfClients(t *testing.T) {
	t.Parallel()
	b := newGuardedBank(t)
	for i, header := range []http.Header{bearer(oldToken), bearer(newToken), {"Content-Type": {"application/json"}, "Authorization": {"bEARER  " + newToken + " "}}, basic("bank", password)} {
		gid := "s-shop-" + string(rune('a'+i))
		b.says(200, "SUCCESS")(b.send("POST", "prepare", `{"gid":"`+gid+`","trans_type":"tcc"}`, header))
		b.says(200, "SUCCESS")(b.send("POST", "submit", `{"gid":"`+gid+`","trans_type":"tcc"}`, header))
	}
	b.says(200, "SUCCESS")(b.send("POST", "prepare", `{"gid":"s-other","trans_type":"tcc"}`, basic("bank", password)))
	// A client does not reach the transactions of another one.
	for _, path := range []string{"prepare", "submit", "abort", "registerBranch", "resetNextCronTime"} {
		b.says(400, `does not begin with \"s-shop-\"`)(b.send("POST", path, `{"gid":"s-other","trans_type":"tcc","branch_id":"01"}`, bearer(newToken)))
	}
	for _, path := range []string{"query?gid=s-other", "all?gid=s-other"} {
		b.says(400, `does not begin with \"s-shop-\"`)(b.send("GET", path, "", bearer(newToken)))
	}
	if _, text := b.send("GET", "all", "", bearer(newToken)); strings.Contains(text, "s-other") || strings.Count(text, "s-shop-") != 4 {
		t.Errorf("%s", text)
	}
	for _, path := range []string{"query?gid=s-other", "all"} {
		b.says(200, "s-other")(b.send("GET", path, "", basic("watch", password)))
	}
	_, text := b.send("GET", "newGid", "", bearer(newToken))
	var got struct{ GID string }
	if err := json.Unmarshal([]byte(text), &got); err != nil || !strings.HasPrefix(got.GID, "s-shop-") {
		t.Errorf("%s: %v", text, err)
	}
	// One that may only read.
	for _, path := range []string{"newGid", "version", "query?gid=s-shop-a", "all"} {
		b.says(200, "")(b.send("GET", path, "", basic("watch", password)))
	}
	for _, path := range []string{"prepare", "submit", "abort", "registerBranch", "registerTccBranch", "registerXaBranch", "resetNextCronTime"} {
		b.says(403, "only read")(b.send("POST", path, `{"gid":"s-other","trans_type":"tcc","branch_id":"01"}`, basic("watch", password)))
	}
	if found, err := b.orch.Lookup(t.Context(), "s-other"); err != nil || found.State != saga.Trying {
		t.Errorf("%+v, %v", found, err)
	}
}

// DTM's client sends the user and the password of the URL.
func TestDTMClientWithAPassword(t *testing.T) {
	t.Parallel()
	b := newGuardedBank(t)
	at := strings.Replace(b.dtm(), "http://", "http://bank:"+password+"@", 1)
	gid := dtmcli.MustGenGid(at)
	sagatest.Must(t, b.transferAt(at, gid, transfer{Amount: 30}, func(t *dtmcli.Tcc) { t.WaitResult = true }))
	b.books(70, 30)
	if err := b.transfer("s-nobody", transfer{Amount: 30}, nil); err == nil || !strings.Contains(err.Error(), "Authorization") {
		t.Errorf("%v", err)
	}
}

func TestBadCredentials(t *testing.T) {
	t.Parallel()
	b := newBank(t, sqltest.Open(t, "sqlite"))
	long := strings.Repeat("x", 16)
	for says, credentials := range map[string][]server.Credential{
		"either":        {{}},
		"either a":      {{Token: long, User: "a", Password: long}},
		"without a":     {{Password: long}},
		"15 characters": {{Token: long[1:]}},
		"0 characters":  {{User: "a"}},
		"spaces":        {{Token: long + " " + long}},
		"colon":         {{User: "a:b", Password: long}},
		"begin with":    {{Token: long, GIDPrefix: "b-"}},
		"64 characters": {{Token: long, GIDPrefix: "a-" + strings.Repeat("y", 70)}},
		"twice":         {{Token: long}, {Token: long, ReadOnly: true}},
	} {
		_, err := server.New(b.orch, server.Config{Hosts: []string{"elsewhere"}, GIDPrefix: "a-", Credentials: credentials})
		if !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "Config.Credentials[") || strings.Contains(err.Error(), long) {
			t.Errorf("%s: %v", says, err)
		}
	}
}
