package chaos

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// skewVariable is the environment variable that the skewed package time reads:
// see skew.String.
const skewVariable = "CHAOS_CLOCK"

// skew is how wrong the clock of a process is. Timers wait as long as they should.
type skew struct {
	offset time.Duration // of the wall clock
	drift  int           // of wall clock and monotonic clock, in parts per million
	jump   time.Duration // of the wall clock, forth and back
	every  time.Duration // how long after each other
}

func drawSkew(rng *rand.Rand) skew {
	const day = 24 * time.Hour
	return skew{
		offset: time.Duration(rng.Int64N(int64(2*day))) - day,
		drift:  rng.IntN(100_001) - 50_000,
		jump:   time.Duration(rng.Int64N(int64(2*time.Hour))) - time.Hour,
		every:  time.Second + time.Duration(rng.Int64N(int64(10*time.Second))),
	}
}

// String is the value of skewVariable: "offset drift jump every", in
// nanoseconds and parts per million.
func (s skew) String() string {
	return fmt.Sprintf("%d %d %d %d", s.offset, s.drift, s.jump, s.every)
}

// skewed is the source that is added to package time. It imports syscall only,
// because other packages import time.
const skewed = `package time

import "syscall"

var skewOffset, skewDrift, skewJump, skewEvery = readSkew()

func readSkew() (offset, drift, jump, every int64) {
	text, _ := syscall.Getenv("` + skewVariable + `")
	for _, field := range []*int64{&offset, &drift, &jump, &every} {
		sign := int64(1)
		for len(text) > 0 && text[0] != ' ' {
			if text[0] == '-' {
				sign = -1
			} else {
				*field = *field*10 + int64(text[0]-'0')
			}
			text = text[1:]
		}
		*field *= sign
		if len(text) > 0 {
			text = text[1:]
		}
	}
	return
}

func skewedNano() int64 {
	now := runtimeNano()
	return now + (now-startNano)*skewDrift/1_000_000
}

func skewedNow() (sec int64, nsec int32, mono int64) {
	sec, nsec, mono = runtimeNow()
	elapsed := mono - startNano
	drift := elapsed * skewDrift / 1_000_000
	wall := sec*1_000_000_000 + int64(nsec) + skewOffset + drift
	if skewEvery > 0 && elapsed/skewEvery%2 == 1 {
		wall += skewJump
	}
	return wall / 1_000_000_000, int32(wall % 1_000_000_000), mono + drift
}
`

// clockReads are the places in time.go where a clock is read. Its variable startNano
// stays as it is.
var clockReads = []struct {
	place *regexp.Regexp
	with  string
}{
	{regexp.MustCompile(`(sec, nsec, mono := )(?:runtimeNow|now)\(\)`), "${1}skewedNow()"},         // Now
	{regexp.MustCompile(`(subMono\()runtimeNano\(\)(-startNano, t\.ext\))`), "${1}skewedNano()$2"}, // Since
	{regexp.MustCompile(`(subMono\(t\.ext, )runtimeNano\(\)(-startNano\))`), "${1}skewedNano()$2"}, // Until
}

// clockOverlay writes a file for go build -overlay. A program that is built with it
// skews its clocks as skewVariable says. Go reads the clock without libc, so a
// preloaded library cannot do it.
func clockOverlay(dir string) (string, error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("asking for GOROOT: %w", err)
	}
	original := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	source, err := os.ReadFile(original)
	if err != nil {
		return "", fmt.Errorf("reading package time: %w", err)
	}
	text, err := skewSource(string(source))
	if err != nil {
		return "", fmt.Errorf("%s: %w", original, err)
	}
	changed, added := filepath.Join(dir, "time.go"), filepath.Join(dir, "skew.go")
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		original: changed,
		filepath.Join(filepath.Dir(original), "skew.go"): added,
	}})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	for path, content := range map[string]string{changed: text, added: skewed, file: string(overlay)} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return "", err
		}
	}
	return file, nil
}

// skewSource returns the source of package time with its clocks skewed.
func skewSource(source string) (string, error) {
	for _, read := range clockReads {
		if n := len(read.place.FindAllString(source, -1)); n != 1 {
			return "", fmt.Errorf("%d places match %s, not one: this version of Go reads its clock in another way, so clockReads has to be adapted", n, read.place)
		}
		source = read.place.ReplaceAllString(source, read.with)
	}
	return source, nil
}
