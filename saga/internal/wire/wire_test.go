package wire_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// The query of an address is kept as it is, but for the parameters of a call.
func TestAddressQueryIsKept(t *testing.T) {
	t.Parallel()
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.URL.RawQuery }))
	t.Cleanup(server.Close)
	const own = "branch_id=01&gid=g&op=confirm&trans_type=tcc"
	for query, want := range map[string]string{
		"":                       own,
		"tenant=7":               "tenant=7&" + own,
		"a=1;b=2":                "a=1;b=2&" + own,
		"b=2&a=1&b=3":            "b=2&a=1&b=3&" + own,
		"a=%7E+x%20y":            "a=%7E+x%20y&" + own,
		"a=%zz&&flag":            "a=%zz&flag&" + own,
		"op=cancel&a=1&gid=x":    "a=1&" + own,
		"%6Fp=cancel&g%69d=&a=1": "a=1&" + own,
	} {
		address, err := url.Parse(server.URL + "/x?" + query)
		if err != nil {
			t.Fatal(err)
		}
		call := saga.Call{GID: "g", BranchID: "01", Op: barrier.Confirm, Caller: "me", Payload: []byte("{}")}
		if err := wire.Post(context.Background(), server.Client(), address, call); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", query, got, err, want)
		}
	}
}

func TestClip(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "short", strings.Repeat("x", 100), strings.Repeat("ü", 100), "a\x00b\nc\x1b[31m\u0085", "\xff\xfe", strings.Repeat("\x80", 100), strings.Repeat("\xff\x00", 1<<20)} {
		for _, n := range []int{3, 4, 5, 20, 50} {
			got := wire.Clip(text, n)
			if len(got) > n || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == 0x85 }) {
				t.Errorf("%.20q at %d: %q", text, n, got)
			}
		}
	}
	if got := wire.Clip("exact", 5); got != "exact" {
		t.Error(got)
	}
}

// What AppendDone writes for a call that is done is what JSON would write, or it says that it
// cannot.
func TestAppendDone(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"", "order-1", "A b/c.~", `"`, `\`, "<&>", "é", "\x7f", "\n", "\xff", strings.Repeat("x", 300)} {
		for i := range 4 {
			parts := [4]string{"gid", "01", "try", "0123456789abcdef0123456789abcdef"}
			parts[i] = part
			a := wire.Answer{GID: parts[0], BranchID: parts[1], Op: parts[2], Request: parts[3]}
			want, err := wire.Marshal(wire.Reply{Result: wire.Success, Answers: &a})
			if err != nil {
				t.Fatal(err)
			}
			if got, plain := wire.AppendDone(nil, a); plain && string(got) != string(want)+"\n" {
				t.Errorf("%q, want %q", got, want)
			} else if ascii := !strings.ContainsAny(part, "\"\\\n\x7fé") && utf8.ValidString(part); plain != ascii {
				t.Errorf("%q: plain is %t", part, plain)
			}
			if got := (wire.Reply{Answers: &a}).Encode(http.StatusOK); string(got) != string(want)+"\n" {
				t.Errorf("encoded as %q, want %q", got, want)
			}
		}
	}
}
