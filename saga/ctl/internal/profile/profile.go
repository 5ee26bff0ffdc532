// Package profile reads the file with the named profiles of a command.
package profile

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// Profile is what a person does not want to type with each call.
type Profile struct {
	DB     string `yaml:"db"`     // address of the database
	NATS   string `yaml:"nats"`   // URL of the broker
	Stream string `yaml:"stream"` // stream of messages
	Who    string `yaml:"who"`    // who acts
}

// File is the profile file.
type File struct {
	Default  string             `yaml:"default"` // name of the profile that counts if none is asked for
	Profiles map[string]Profile `yaml:"profiles"`
}

// Path returns the path of the profile file of a command: $XDG_CONFIG_HOME/NAME/config.yaml,
// or ~/.config/NAME/config.yaml. It is empty if there is no home directory.
func Path(name string, getenv func(string) string) string {
	if dir := getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, name, "config.yaml")
	}
	if home := cmp.Or(getenv("HOME"), getenv("USERPROFILE")); home != "" {
		return filepath.Join(home, ".config", name, "config.yaml")
	}
	return ""
}

// Read returns a profile of the file at path: the one with the name, or the default one if name
// is empty. A file that does not exist has an empty default profile. The warning is for a file
// that has a password and that other people can read.
func Read(path, name string) (p Profile, warning string, err error) {
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || path == "":
		if name != "" {
			return p, "", fmt.Errorf("there is no profile %q, because there is no file %s", name, cmp.Or(path, "with profiles"))
		}
		return p, "", nil
	case err != nil:
		return p, "", fmt.Errorf("the profile file: %w", err)
	}
	var file File
	if err := yaml.UnmarshalWithOptions(text, &file, yaml.Strict()); err != nil {
		// The error of the library quotes the lines around the fault, which may hold a password.
		return p, "", fmt.Errorf("the profile file %s is not valid: %s", path, firstLine(err))
	}
	name = cmp.Or(name, file.Default)
	if name == "" {
		return p, "", nil
	}
	p, found := file.Profiles[name]
	if !found {
		return p, "", fmt.Errorf("there is no profile %q in %s; there are: %s", name, path,
			cmp.Or(strings.Join(slices.Sorted(maps.Keys(file.Profiles)), ", "), "none"))
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 && hasPassword(p) {
		warning = fmt.Sprintf("other people can read %s, which has a password: run chmod 600 %s", path, path)
	}
	return p, warning, nil
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(yaml.FormatError(err, false, false), "\n")
	return line
}

// hasPassword reports whether an address seems to have one.
func hasPassword(p Profile) bool {
	for _, address := range []string{p.DB, p.NATS} {
		if strings.Contains(address, "password=") {
			return true
		}
		before, _, found := strings.Cut(address, "@")
		_, user, hasScheme := strings.Cut(before, "://")
		if !hasScheme {
			user = before
		}
		if found && strings.Contains(user, ":") {
			return true
		}
	}
	return false
}
