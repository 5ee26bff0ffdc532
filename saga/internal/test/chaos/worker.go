package chaos

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// worker is a worker process, with proxies of its own between it and the servers; or the host,
// which has a proxy to MariaDB only.
type worker struct {
	*process
	database, nats, host *proxy

	rng  *rand.Rand // used by start
	skew skew

	mu     sync.Mutex
	ready  Ready // of the process that runs; zero while there is none
	starts int
}

// buildWorker builds the program with a clock that can be skewed.
func buildWorker(ctx context.Context, dir string) (string, error) {
	overlay, err := clockOverlay(dir)
	if err != nil {
		return "", fmt.Errorf("skewing the clock: %w", err)
	}
	program := filepath.Join(dir, "worker")
	build := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-o", program, "github.com/tccsaga/tccsaga/saga/internal/test/chaos/worker")
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the worker: %w: %s", err, output)
	}
	return program, nil
}

// lease is that of the workers' engines. It is short, so that many of them end.
const lease = time.Second

func newWorker(r *run, number int, program string, rng *rand.Rand) (w *worker, err error) {
	w = &worker{rng: rng}
	if w.database, err = newProxy(r.mariadb.address, mysqlCommits); err != nil {
		return nil, err
	}
	if w.nats, err = newProxy(r.broker.address, natsAcks); err != nil {
		return w, err
	}
	if w.host, err = newProxy(r.hostAddress, requests(&r.batches)); err != nil {
		return w, err
	}
	interpolate := number%2 == 0
	w.command(r, program, Setup{Name: fmt.Sprintf("worker-%d", number), EngineDB: dsn(w.database.address(), engineDB, interpolate),
		ServiceDB: dsn(w.database.address(), serviceDB, interpolate), Prepare: !interpolate, NATS: "nats://" + w.nats.address(), Stream: stream,
		Gateway: r.gateway.url, Lease: lease, Host: "http://" + w.host.address() + "/branches"})
	return w, nil
}

// newHost returns the process that hosts branches.
func newHost(r *run, program string, rng *rand.Rand) (w *worker, err error) {
	w = &worker{rng: rng}
	if w.database, err = newProxy(r.mariadb.address, mysqlCommits); err != nil {
		return nil, err
	}
	w.command(r, program, Setup{Name: "host", HostListen: r.hostAddress, HostDB: dsn(w.database.address(), hostDB, true)})
	return w, nil
}

// command makes the process of a worker.
func (w *worker) command(r *run, program string, setup Setup) {
	text, err := json.Marshal(setup)
	if err != nil {
		panic(err) // it has only texts and numbers
	}
	w.process = r.processes.process(setup.Name, func() *exec.Cmd {
		command := exec.Command(program, string(text))
		command.Env = append(os.Environ(), skewVariable+"="+w.skew.String())
		return command
	})
}

// proxies are those between the worker and the servers.
func (w *worker) proxies() (all []*proxy) {
	for _, p := range []*proxy{w.database, w.nats, w.host} {
		if p != nil {
			all = append(all, p)
		}
	}
	return all
}

// start starts the process, with a new clock, and returns when it serves.
func (w *worker) start(ctx context.Context) error {
	w.skew = drawSkew(w.rng)
	output, err := w.process.start(true)
	if err != nil {
		return err
	}
	lines := make(chan []byte, 1)
	go func() {
		line, _ := bufio.NewReader(output).ReadBytes('\n')
		lines <- line
	}()
	var line []byte
	select {
	case line = <-lines:
	case <-ctx.Done():
		return fmt.Errorf("%s does not start: %w; %s", w.name, context.Cause(ctx), w.outputTail())
	}
	var ready Ready
	if err := json.Unmarshal(line, &ready); err != nil {
		if failure := w.failure(); failure != nil {
			return failure
		}
		return fmt.Errorf("%s was killed before it served: %w", w.name, err)
	}
	if ahead := time.Until(ready.Clock); (ahead - w.skew.offset).Abs() > 2*time.Hour {
		return fmt.Errorf("the clock of %s is %s ahead, not %s: go build -overlay did not work", w.name, ahead, w.skew.offset)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ready = ready
	w.starts++
	return nil
}

// serving returns the address of the process, if it serves.
func (w *worker) serving() (Ready, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ready, w.ready.Address != ""
}

// kill is kill -9. It returns the id of the killed instance.
func (w *worker) kill() (instance string) {
	instance = w.stopServing()
	w.process.kill()
	return instance
}

// stop lets the worker finish what is under way, and ends it.
func (w *worker) stop(ctx context.Context) error {
	w.stopServing()
	return w.process.stop(ctx)
}

// stopServing keeps clients from sending requests.
func (w *worker) stopServing() (instance string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	instance = w.ready.Instance
	w.ready = Ready{}
	return instance
}

// close ends the worker and its proxies.
func (w *worker) close() {
	w.kill()
	for _, p := range w.proxies() {
		p.close()
	}
}

// answerWithin is how long a client waits for an answer. Some workers are paused.
const answerWithin = 8 * time.Second

var httpClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

// ask sends a request. Without an answer, the result is Unknown.
func (w *worker) ask(ctx context.Context, request Request) Answer {
	answer, err := w.askOnce(ctx, request)
	if err != nil {
		return Answer{Result: Unknown, Text: w.name + ": no answer: " + err.Error()}
	}
	return answer
}

func (w *worker) askOnce(ctx context.Context, request Request) (answer Answer, err error) {
	ready, serving := w.serving()
	if !serving {
		return answer, errors.New("it is not running")
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	body, err := json.Marshal(request)
	if err != nil {
		return answer, err
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+ready.Address, bytes.NewReader(body))
	if err != nil {
		return answer, err
	}
	response, err := httpClient.Do(post)
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return answer, err
	}
	if response.StatusCode != http.StatusOK {
		return Answer{Result: Unexpected, Text: fmt.Sprintf("%s: %s: %s", w.name, response.Status, text)}, nil
	}
	return answer, json.Unmarshal(text, &answer)
}
