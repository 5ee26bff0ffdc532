package dtmtests

import (
	"bytes"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/tccsaga/tccsaga/saga/dtm/dtmtest/source"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

var each = flag.String("each", "", "run the tests with these names, a regular expression, each alone, and compare with RESULTS.md")

// TestDTM runs the tests of DTM that RESULTS.md says pass, and checks that it has all tests.
func TestDTM(t *testing.T) {
	config, err := mysqldriver.ParseDSN(os.Getenv("TCCSAGA_TEST_MYSQL"))
	if err != nil || config.Addr == "" || os.Getenv("TCCSAGA_TEST_MYSQL") == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("TCCSAGA_TEST_MYSQL is not set: run this with .ci/servers")
		}
		t.Skip("TCCSAGA_TEST_MYSQL is not set: run this with .ci/servers")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	sagatest.Must(t, err)
	ports := append(freePorts(t, 3), listener.Addr().(*net.TCPAddr).Port)
	h := newHarness(t, fmt.Sprintf("localhost:%d", ports[0]))
	api := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go api.Serve(listener)
	t.Cleanup(func() { api.Close() })

	host, port, err := net.SplitHostPort(config.Addr)
	sagatest.Must(t, err)
	tests := program{t: t, file: build(t, ports),
		env: append(os.Environ(), "BUSI_HOST="+host, "BUSI_PORT="+port, "BUSI_USER="+config.User, "BUSI_PASSWORD="+config.Passwd, "RETRY_INTERVAL=10")}
	passes, fails := results(t)
	listed := regexp.MustCompile(`(?m)^Test\w+$`).FindAllString(tests.run("-test.list", "."), -1)
	if want := slices.Concat(passes, fails); !sameSet(want, listed) {
		t.Errorf("RESULTS.md does not have the tests that there are: %v, want %v", slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(listed)))
	}
	if *each != "" {
		tests.runEach(h, regexp.MustCompile(*each), passes, fails)
		return
	}
	output := tests.run("-test.v", "-test.timeout", "1m", "-test.run", "^("+strings.Join(passes, "|")+")$")
	for _, name := range passes {
		if !strings.Contains(output, "--- PASS: "+name+" ") {
			t.Errorf("%s does not pass: %s", name, of(output, name))
		}
	}
	if t.Failed() {
		events := regexp.MustCompile(`(?m)^(=== RUN|--- |panic: |\t*Test).*$|.*"level":"(fatal|error)".*$`).FindAllString(output, -1)
		t.Logf("the end of the output: %.3000s", strings.Join(events[max(0, len(events)-10):], "\n"))
	}
}

func (p program) runEach(h *harness, names *regexp.Regexp, passes, fails []string) {
	for _, name := range slices.Concat(passes, fails) {
		if !names.MatchString(name) {
			continue
		}
		output := p.run("-test.v", "-test.timeout", "10s", "-test.run", "^"+name+"$")
		passed := strings.Contains(output, "--- PASS: "+name+" ")
		if passed != slices.Contains(passes, name) {
			p.t.Errorf("%s: passed is %t: %s", name, passed, of(output, name))
		}
		h.forget()
	}
}

// of returns what the output of tests has of one test.
func of(output, name string) string {
	_, after, _ := strings.Cut(output, "=== RUN   "+name+"\n")
	own, _, _ := strings.Cut(after, "=== RUN ")
	return own[:min(len(own), 3000)]
}

func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// results reads RESULTS.md.
func results(t *testing.T) (passes, fails []string) {
	text, err := os.ReadFile("RESULTS.md")
	sagatest.Must(t, err)
	for _, line := range regexp.MustCompile(`(?m)^\| (Test\w+) \| (passes|does not) \| (.*)\|$`).FindAllStringSubmatch(string(text), -1) {
		switch {
		case line[2] == "passes":
			passes = append(passes, line[1])
		case strings.TrimSpace(line[3]) == "":
			t.Errorf("RESULTS.md does not say why %s does not pass", line[1])
		default:
			fails = append(fails, line[1])
		}
	}
	return passes, fails
}

// program is the program of DTM's tests.
type program struct {
	t    *testing.T
	file string
	env  []string
}

func (p program) run(arguments ...string) string {
	command := exec.Command(p.file, arguments...)
	command.Dir, command.Env = filepath.Dir(p.file), p.env
	output, _ := command.CombinedOutput() // the output tells which test has failed
	return string(output)
}

// build copies the module of DTM, replaces what starts a server, and builds its tests. The
// ports are those of the services of the tests, with HTTP and gRPC, and of the server, with
// gRPC and HTTP.
func build(t *testing.T, ports []int) string {
	t.Helper()
	dir, err := source.Folder(".")
	sagatest.Must(t, err)
	to := t.TempDir()
	sagatest.Must(t, os.CopyFS(to, os.DirFS(dir)))
	old, err := filepath.Glob(filepath.Join(to, "dtmsvr", "*.go"))
	sagatest.Must(t, err)
	for _, file := range old {
		sagatest.Must(t, os.Remove(file))
	}
	replace(t, "testdata/dtmsvr/dtmsvr.go", filepath.Join(to, "dtmsvr", "dtmsvr.go"))
	replace(t, "testdata/main_test.go", filepath.Join(to, "test", "main_test.go"))
	replace(t, filepath.Join(to, "test", "busi", "base_http.go"), "", "BusiPort = 8081", fmt.Sprint("BusiPort = ", ports[0]), "BusiGrpcPort = 58081", fmt.Sprint("BusiGrpcPort = ", ports[1]))
	replace(t, filepath.Join(to, "dtmutil", "consts.go"), "", "localhost:36789", fmt.Sprint("localhost:", ports[3]), "localhost:36790", fmt.Sprint("localhost:", ports[2]))
	file := filepath.Join(to, "test", "tests")
	command := exec.Command("go", "test", "-c", "-trimpath", "-o", file, "./test")
	command.Dir, command.Env = to, append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("build DTM's tests: %v: %s", err, output)
	}
	return file
}

// replace copies a file, with other words in the place of some. Without a target, the file is
// changed.
func replace(t *testing.T, from, to string, words ...string) {
	t.Helper()
	text, err := os.ReadFile(from)
	sagatest.Must(t, err)
	for i := 0; i < len(words); i += 2 {
		if !bytes.Contains(text, []byte(words[i])) {
			t.Fatalf("%s does not have %q", from, words[i])
		}
	}
	if to == "" {
		to = from
	}
	sagatest.Must(t, os.WriteFile(to, []byte(strings.NewReplacer(words...).Replace(string(text))), 0o600))
}

func freePorts(t *testing.T, n int) (ports []int) {
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		sagatest.Must(t, err)
		defer listener.Close()
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports
}
