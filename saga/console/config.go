package console

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"strings"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga/xa"
)

// Verb is what a person wants to do with the console.
type Verb string

// The verbs.
const (
	View       Verb = "view"        // see every page
	Export     Verb = "export"      // download a transaction as JSON
	Retry      Verb = "retry"       // a transaction
	Pause      Verb = "pause"       // a transaction
	Resume     Verb = "resume"      // a transaction
	Confirm    Verb = "confirm"     // decide a transaction
	Cancel     Verb = "cancel"      // decide a transaction
	Resolve    Verb = "resolve"     // state the result of a branch with a conflict
	PauseKind  Verb = "pause-kind"  // pause a kind of branch
	ResumeKind Verb = "resume-kind" // resume a kind of branch
	Bulk       Verb = "bulk"        // act on many transactions; the verb of the act is asked for as well
	Resend     Verb = "resend"      // send dead letters again
	Delete     Verb = "delete"      // delete dead letters
)

// reads reports whether a verb changes nothing.
func (v Verb) reads() bool { return v == View || v == Export }

// Config configures a [Console]. The zero value works: it shows everything to clients on the same
// machine, and refuses all acts.
type Config struct {
	// Path is where the console is mounted, such as "/console", which is the default. "/" is
	// the root. All links begin with it, also if the path is stripped from the requests that
	// the console gets.
	Path string

	// Title is the name of the service, which every page shows. Defaults to "tccsaga".
	Title string

	// Authorize authenticates the sender of a request and decides whether the sender may do
	// something. It returns the name that the audit log gets. It is required for acts. An
	// error refuses, and its text is shown to the sender; so is an act without a name.
	//
	// It is asked for each request, and also before the console offers an act. So it must be
	// quick, and have no effects. Several requests can call it at the same time.
	//
	// If it is nil, the console serves reads to clients on the same machine that name the host
	// as localhost or a loopback address, and that come through no proxy. It refuses all acts.
	Authorize func(r *http.Request, verb Verb) (who string, err error)

	// ReadOnly refuses all acts, of everybody.
	ReadOnly bool

	// Redact returns what the console shows of a payload, of a result, or of the data of a
	// message. The kind is the kind of branch, or the subject of the message. It is asked for
	// pages and for exports. Defaults to all of it. Errors, reasons and labels are always
	// shown. Several requests can call it at the same time.
	Redact func(kind string, data []byte) []byte

	// Outbox are the messages that wait to be published. Nil if there are none to show.
	Outbox *message.Outbox

	// DeadLetters are the dead letters to show, by a name for people.
	DeadLetters map[string]*message.DeadLetters

	// XA are the databases to search for prepared transactions in doubt, by a name for people.
	XA map[string]*xa.Database

	// Logger receives errors that a page only names, and refused requests. Defaults to
	// [slog.Default].
	Logger *slog.Logger
}

// withDefaults checks a configuration and fills it in.
func (c Config) withDefaults() (Config, error) {
	if c.Path == "" {
		c.Path = "/console"
	}
	if !strings.HasPrefix(c.Path, "/") || strings.Contains(c.Path, "//") || path.Clean(c.Path) != strings.TrimSuffix(c.Path, "/") && c.Path != "/" ||
		strings.ContainsFunc(c.Path, func(r rune) bool {
			return !strings.ContainsRune("/-._~", r) && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
		}) {
		return c, fmt.Errorf("console: the Path %q must begin with a slash, and have letters, digits and -._~ between single slashes", c.Path)
	}
	c.Path = strings.TrimSuffix(c.Path, "/")
	if c.Title == "" {
		c.Title = "tccsaga"
	}
	for name, letters := range c.DeadLetters {
		if name == "" || letters == nil {
			return c, fmt.Errorf("console: DeadLetters[%q] has no name or is nil", name)
		}
	}
	for name, database := range c.XA {
		if name == "" || database == nil {
			return c, fmt.Errorf("console: XA[%q] has no name or is nil", name)
		}
	}
	if c.Redact == nil {
		c.Redact = func(_ string, data []byte) []byte { return data }
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

var errNoOperations = errors.New("console: the Operations are nil: use those of an engine, or open some with embedded.OpenOperations")
