import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import java.net.InetSocketAddress;
import java.util.List;

/** Listens on the loopback port that its argument names, keeps everything in memory, and runs until it is killed. */
public class Server {
    /** Go's driver talks to no server older than this. What Millrace asks of such a one, this server does. */
    private enum Version implements MongoVersion {
        V5_0;

        @Override
        public List<Integer> getVersionArray() {
            return List.of(5, 0, 0);
        }

        @Override
        public int getWireVersion() {
            return 13;
        }
    }

    public static void main(String[] args) {
        MemoryBackend backend = new MemoryBackend();
        backend.version(Version.V5_0);
        MongoServer server = new MongoServer(backend);
        server.bind(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])));
        System.out.println("listening on " + server.getLocalAddress() + "; everything is kept in memory");
        Runtime.getRuntime().addShutdownHook(new Thread(server::shutdownNow));
    }
}
