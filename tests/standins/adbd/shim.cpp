// What Android's init, property service and framework do for adbd on a device,
// done from the environment instead. Runs before adbd's own main().
//
//   ADBD_PORT=5555        listen on 127.0.0.1:5555 only (never on vsock or 0.0.0.0)
//   ADBD_ADDRESS=10.0.0.2 listen on this address instead, which must be one of a network namespace of its own
//   ADBD_PROPS=FILE       build.prop-style key=value lines (ro.adb.secure, ro.product.model ...)
//   ADBD_ROOT=DIR         chroot there first, so that "/" is the stand-in device
//   ADBD_AUTH_SOCKET=1    serve /dev/socket/adbd, where a stand-in for the framework's
//                         "Allow USB debugging?" dialog connects and answers OK or NO
//   ADBD_UID=2000         drop to this uid and gid; "adb root" brings root back if ro.debuggable=1
//   ADBD_DROP=a,b         features not to announce ("abb,abb_exec,apex" unless set)
//   ADBD_EXIT_WITH_PARENT=1  die when the process that started us dies

#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include <android-base/properties.h>
#include <android-base/stringprintf.h>
#include <android-base/strings.h>

#include "adb.h"
#include "daemon/shell_service.h"
#include "services.h"
#include "socket_spec.h"
#include "transport.h"

using android::base::SetProperty;

// left by "adb root" for the adbd that is started next
static const char kRootWanted[] = "/dev/socket/.root";

static void die(const char* what) {
    fprintf(stderr, "adbd shim: %s: %s\n", what, strerror(errno));
    _exit(1);
}

// In place of libcutils' one, which is only a stub in a host build.
static int auth_socket = -1;
extern "C" int android_get_control_socket(const char*) {
    return auth_socket;
}

// In place of liblog's, which says yes: without ro.debuggable=1 "adb root" is refused.
extern "C" int __android_log_is_debuggable() {
    return android::base::GetProperty("ro.debuggable", "") == "1";
}

__attribute__((constructor)) static void before_main() {
    // a script's "&" leaves these ignored, and every device shell would inherit that
    signal(SIGINT, SIG_DFL);
    signal(SIGQUIT, SIG_DFL);
    signal(SIGHUP, SIG_DFL);  // nohup leaves this one ignored, and adbd ends a closed shell by it
    if (getenv("ADBD_EXIT_WITH_PARENT")) prctl(PR_SET_PDEATHSIG, SIGTERM);

    if (const char* root = getenv("ADBD_ROOT")) {
        if (chroot(root) == -1 || chdir("/") == -1) die(root);
    }

    if (const char* path = getenv("ADBD_PROPS")) {
        std::ifstream in(path);
        if (!in) die(path);
        for (std::string line; std::getline(in, line);) {
            size_t eq = line.find('=');
            if (line.empty() || line[0] == '#' || eq == std::string::npos) continue;
            SetProperty(line.substr(0, eq), line.substr(eq + 1));
        }
    }
    if (const char* port = getenv("ADBD_PORT")) {
        // adbd's own ADBD_PORT would listen on every interface
        SetProperty("service.adb.listen_addrs", std::string("tcp:localhost:") + port);
    }

    if (getenv("ADBD_AUTH_SOCKET")) {
        int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
        sockaddr_un addr = {.sun_family = AF_UNIX, .sun_path = "/dev/socket/adbd"};
        mkdir("/dev/socket", 0755);
        unlink(addr.sun_path);
        if (fd == -1 || bind(fd, reinterpret_cast<sockaddr*>(&addr), sizeof(addr)) == -1) {
            die(addr.sun_path);
        }
        auth_socket = fd;
    }

    const char* uid = getenv("ADBD_UID");
    if (uid && access(kRootWanted, F_OK) == -1) {
        id_t id = atoi(uid);
        if (setgroups(0, nullptr) == -1 || setgid(id) == -1 || setuid(id) == -1) die("ADBD_UID");
    }
}

// libcutils listens on loopback or on everything: this on one address, never on 0.0.0.0.
static int listen_on(const char* address, int port, std::string* error) {
    sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, address, &addr.sin_addr) != 1 || addr.sin_addr.s_addr == INADDR_ANY) {
        *error = "ADBD_ADDRESS is no single address";
        errno = EPROTONOSUPPORT;
        return -1;
    }
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd == -1 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1 ||
        bind(fd, reinterpret_cast<sockaddr*>(&addr), sizeof(addr)) == -1 || listen(fd, 16) == -1) {
        *error = strerror(errno);
        if (fd != -1) close(fd);
        errno = EAGAIN;  // the caller tries again in a second
        return -1;
    }
    errno = 0;
    return fd;
}

// transport_local.cpp is compiled to call this instead of socket_spec_listen().
// Two reasons: nothing here may listen beyond loopback or the address asked for, and parsing
// "localhost:" leaves EINVAL in errno, which the caller takes for a failure of the listen.
int private_listen(std::string_view spec, std::string* error, int* resolved_port) {
    constexpr std::string_view prefix = "tcp:localhost:";
    if (!spec.starts_with(prefix)) {
        *error = "only tcp:localhost:PORT is served";
        errno = EPROTONOSUPPORT;
        return -1;
    }
    if (const char* address = getenv("ADBD_ADDRESS")) {
        int port = atoi(std::string(spec.substr(prefix.size())).c_str());
        if (resolved_port) *resolved_port = port;
        return listen_on(address, port, error);
    }
    int fd = socket_spec_listen(spec, error, resolved_port);
    if (fd >= 0) errno = 0;
    return fd;
}

// adb.cpp is compiled to call this instead of supported_features(): a host adbd
// announces services (abb) that only the Android build of it has.
const FeatureSet& announced_features() {
    static const FeatureSet& features = *[] {
        auto* set = new FeatureSet(supported_features());
        const char* drop = getenv("ADBD_DROP");
        for (const auto& f : android::base::Split(drop ? drop : "abb,abb_exec,apex", ",")) {
            set->erase(f);
        }
        return set;
    }();
    return features;
}

// services.cpp is compiled to call this instead of daemon_service_to_fd(): the
// services that daemon/services.cpp keeps for the Android build, as far as they
// are only a program to run or a property to set.
void restart_root_service(unique_fd fd);
void restart_unroot_service(unique_fd fd);
void restart_tcp_service(unique_fd fd, int port);
void restart_usb_service(unique_fd fd);

static unique_fd run(const std::string& command) {
    return StartSubprocess(command, nullptr, SubprocessType::kRaw, SubprocessProtocol::kNone);
}

unique_fd device_service_to_fd(std::string_view name, atransport* transport) {
    std::string_view arg = name;
    if (android::base::ConsumePrefix(&arg, "reboot:")) {
        return run("/system/bin/reboot " + std::string(arg));
    } else if (android::base::ConsumePrefix(&arg, "remount:")) {
        return run("/system/bin/remount " + std::string(arg));
    } else if (name.starts_with("root:")) {
        // adbd ends after "root:" and "unroot:", as on a device; the next one looks for this
        if (__android_log_is_debuggable()) close(creat(kRootWanted, 0644));
        return create_service_thread("root", restart_root_service);
    } else if (name.starts_with("unroot:")) {
        unlink(kRootWanted);
        return create_service_thread("unroot", restart_unroot_service);
    } else if (android::base::ConsumePrefix(&arg, "tcpip:")) {
        int port = atoi(std::string(arg).c_str());
        return create_service_thread(
                "tcp", std::bind(restart_tcp_service, std::placeholders::_1, port));
    } else if (name.starts_with("usb:")) {
        return create_service_thread("usb", restart_usb_service);
    }
    return daemon_service_to_fd(name, transport);
}
