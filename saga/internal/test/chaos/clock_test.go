package chaos

import (
	"strings"
	"testing"
)

// A version of Go that reads its clock in another way is refused, so that no worker
// has a correct clock.
func TestSkewSourceOfAnotherGo(t *testing.T) {
	t.Parallel()
	const source = `
func Since(t Time) Duration { return subMono(runtimeNano()-startNano, t.ext) }
func Until(t Time) Duration { return subMono(t.ext, runtimeNano()-startNano) }
func Now() Time {
	sec, nsec, mono := runtimeNow()
`
	changed, err := skewSource(source)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(changed, "runtimeN") || strings.Count(changed, "skewedNano()") != 2 || strings.Count(changed, "skewedNow()") != 1 {
		t.Errorf("the clock is still right in %s", changed)
	}
	if _, err := skewSource(strings.Replace(source, "runtimeNow()", "theClock()", 1)); err == nil || !strings.Contains(err.Error(), "clockReads") {
		t.Errorf("another way to read the clock: %v", err)
	}
}
