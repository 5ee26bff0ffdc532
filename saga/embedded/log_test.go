package embedded_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// callAttributes name a call of a branch in a log line.
var callAttributes = []string{"gid", "branch", "kind", "operation", "attempt"}

// lines is a handler that keeps the attributes of log lines, by their messages.
type lines struct {
	mu  sync.Mutex
	all map[string]map[string]slog.Value
}

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }
func (l *lines) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *lines) WithGroup(string) slog.Handler            { return l }
func (l *lines) Handle(_ context.Context, r slog.Record) error {
	attributes := map[string]slog.Value{}
	r.Attrs(func(a slog.Attr) bool { attributes[a.Key] = a.Value; return true })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all[r.Message] = attributes
	return nil
}

func (l *lines) of(part string) map[string]slog.Value {
	l.mu.Lock()
	defer l.mu.Unlock()
	for message, attributes := range l.all {
		if strings.Contains(message, part) {
			return attributes
		}
	}
	return nil
}

// The log lines about a call of a branch name it.
func TestLogLinesNameTheCall(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	log := &lines{all: map[string]map[string]slog.Value{}}
	orch := sagatest.Open(t, db, embedded.Config{Logger: slog.New(log), AttentionAttempts: 2, Lease: time.Minute})
	broken := func(_ context.Context, _ *gorm.DB, call saga.Call) error {
		if call.Op == barrier.Confirm && call.Attempt < 4 {
			panic("broken")
		}
		return nil
	}
	sagatest.Must(t, orch.Register(saga.NewLocal("broken", func(any) ([]byte, error) { return []byte("1"), nil }, saga.Local{Work: broken, Database: sqltest.Open(t, "sqlite")})))
	sagatest.Run(t, orch)
	gid := sagatest.GID()
	_, err := orch.Execute(t.Context(), saga.Plan{GID: gid, Steps: []saga.Step{{Kind: "broken"}}})
	sagatest.Must(t, err)
	sagatest.Reach(t, orch, gid, saga.Confirmed)
	for _, part := range []string{"failed and will be repeated", "panicked"} {
		line := log.of(part)
		if line == nil {
			t.Errorf("no log line has %q", part)
			continue
		}
		for key, want := range map[string]string{"gid": gid, "branch": "01", "kind": "broken", "operation": "confirm"} {
			if got := line[key]; got.Kind() != slog.KindString || got.String() != want {
				t.Errorf("%s: %s is %s, want %s", part, key, got, want)
			}
		}
		if got := line["attempt"]; got.Kind() != slog.KindInt64 || got.Int64() < 1 {
			t.Errorf("%s: attempt is %s", part, got)
		}
	}
	if line := log.of("needs attention"); line["gid"].String() != gid {
		t.Errorf("the line about the attention has %v", line)
	}
}

// notCalls are log lines with a branch that are not about one of its calls, or whose writer does
// not know the attempt.
var notCalls = map[string]bool{
	"remote: a branch call failed": true, // the host does not know the attempt
	"saga: a finished transaction is removed, but not the data of its branch: no instance knows the kind of branch": true,
}

// Every log line of the code uses the same names, and one that names a branch names the call.
func TestNamesInLogLines(t *testing.T) {
	t.Parallel()
	snake := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	found := 0
	for _, root := range []string{"..", "../../branches"} {
		sagatest.Must(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "/test/") || strings.Contains(path, "/bench/") {
				return err
			}
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				call, is := n.(*ast.CallExpr)
				if !is {
					return true
				}
				message, keys := logLine(call)
				if len(keys) == 0 {
					return true
				}
				found++
				at := set.Position(call.Pos())
				for _, key := range keys {
					if !snake.MatchString(key) || slices.Contains([]string{"branch_id", "op", "tx", "transaction", "attempts"}, key) {
						t.Errorf("%s: the attribute %q", at, key)
					}
				}
				if slices.Contains(keys, "branch") && !notCalls[message] {
					for _, key := range callAttributes {
						if !slices.Contains(keys, key) {
							t.Errorf("%s: %q names a branch, and has no %s", at, message, key)
						}
					}
				}
				return true
			})
			return nil
		}))
	}
	if found < 15 {
		t.Errorf("only %d log lines were found", found)
	}
}

// logLine returns the message of a call that logs, and the names of its attributes.
func logLine(call *ast.CallExpr) (message string, keys []string) {
	method, is := call.Fun.(*ast.SelectorExpr)
	if !is || !slices.Contains([]string{"Debug", "Info", "Warn", "Error", "LogAttrs"}, method.Sel.Name) {
		return "", nil
	}
	for _, argument := range call.Args {
		switch argument := argument.(type) {
		case *ast.BasicLit:
			if text, err := strconv.Unquote(argument.Value); err == nil && message == "" {
				message = text
			}
		case *ast.CallExpr:
			of, is := argument.Fun.(*ast.SelectorExpr)
			if !is || len(argument.Args) == 0 {
				continue
			}
			if name, is := of.X.(*ast.Ident); !is || name.Name != "slog" {
				continue
			}
			if key, is := argument.Args[0].(*ast.BasicLit); is {
				text, _ := strconv.Unquote(key.Value)
				keys = append(keys, text)
			}
		}
	}
	return message, keys
}
