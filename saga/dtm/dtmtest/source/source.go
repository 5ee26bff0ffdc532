// Package source finds the source of the DTM server, whose scripts and tests others run.
package source

import (
	"encoding/json"
	"fmt"
	"os/exec"
)

// Folder returns the folder of DTM's source, in the version that the module in a folder needs.
// It downloads the source if this machine does not have it.
func Folder(module string) (string, error) {
	download := exec.Command("go", "mod", "download", "-json", "github.com/dtm-labs/dtm")
	download.Dir = module
	out, err := download.Output()
	if err != nil {
		return "", fmt.Errorf("downloading DTM's source: %w: %s", err, out)
	}
	var found struct{ Dir string }
	if err := json.Unmarshal(out, &found); err != nil {
		return "", fmt.Errorf("downloading DTM's source: %w", err)
	}
	return found.Dir, nil
}
