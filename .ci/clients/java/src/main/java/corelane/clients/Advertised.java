package corelane.clients;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.net.Socket;
import java.util.HashSet;
import java.util.Set;

/**
 * The APIs that a broker says it serves. The client keeps them to itself, so this asks by hand: what a
 * broker does not advertise is skipped and counted, while what it advertises must work.
 */
final class Advertised {
    static final int END_TRANSACTION = 26;
    static final int CONSUMER_GROUP_HEARTBEAT = 68;

    private static final int API_VERSIONS = 18;

    private Advertised() {}

    /** Asks the first of the brokers that answers. */
    static Set<Integer> by(String bootstrap) throws IOException {
        IOException last = null;
        for (String broker : bootstrap.split(",")) {
            try {
                return byOne(broker);
            } catch (IOException problem) {
                last = problem;
            }
        }
        throw last;
    }

    private static Set<Integer> byOne(String bootstrap) throws IOException {
        int colon = bootstrap.lastIndexOf(':');
        int port = Integer.parseInt(bootstrap.substring(colon + 1));
        try (Socket socket = new Socket(bootstrap.substring(0, colon), port)) {
            DataOutputStream out = new DataOutputStream(socket.getOutputStream());
            out.writeInt(10);
            out.writeShort(API_VERSIONS);
            out.writeShort(0);
            out.writeInt(1); // correlation id
            out.writeShort(-1); // no client id
            out.flush();
            DataInputStream in = new DataInputStream(socket.getInputStream());
            in.skipNBytes(4 + 4 + 2); // size, correlation id, error code
            Set<Integer> keys = new HashSet<>();
            for (int left = in.readInt(); left > 0; left--) {
                keys.add((int) in.readShort());
                in.skipNBytes(4); // the range of versions
            }
            return keys;
        }
    }
}
