package main

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
)

const ownMounts = "FAULTS_OWN_MOUNTS"

// haveOwnMounts begins this program anew where nobody else sees what it mounts, so that even a killed one leaves no file
// system behind. Where that is not allowed it goes on as it is; mounting is not allowed there either.
func haveOwnMounts() {
	if os.Getenv(ownMounts) != "" {
		os.Unsetenv(ownMounts)
		return
	}
	runtime.LockOSThread()
	if syscall.Unshare(syscall.CLONE_NEWNS) != nil {
		runtime.UnlockOSThread()
		return
	}
	err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
	if err == nil {
		err = syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), ownMounts+"=1"))
	}
	fmt.Fprintln(os.Stderr, "this program cannot be begun anew with mounts of its own:", err)
	os.Exit(2)
}
